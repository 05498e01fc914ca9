// Loops of little work, to measure what stopping them costs. It is no transport.
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(#name), used)) u32 name(void)

enum { SIZE = 1 << 16, ROUNDS = 16 };
static u8 data[SIZE], other[SIZE];
static u32 crc[256];

EXPORT(sum) {
  u32 n = 0;
  for (int r = 0; r < ROUNDS; r++)
    for (int i = 0; i < SIZE; i++) n += data[i] ^ r;
  return n;
}

EXPORT(exclusive_or) {
  for (int r = 0; r < ROUNDS; r++)
    for (int i = 0; i < SIZE; i++) data[i] ^= other[i] + r;
  return data[9];
}

EXPORT(table) {
  u32 n = ~0u;
  if (!crc[1])
    for (u32 i = 0; i < 256; i++) {
      u32 c = i;
      for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
      crc[i] = c;
    }
  for (int r = 0; r < ROUNDS; r++)
    for (int i = 0; i < SIZE; i++) n = n >> 8 ^ crc[(n ^ data[i]) & 0xff];
  return n;
}

EXPORT(shift) {
  u64 x = 88172645463325252ull;
  for (int i = 0; i < ROUNDS * SIZE; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  return (u32)x;
}

static __attribute__((noinline)) u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
EXPORT(fibonacci) { return fib(22); }

static __attribute__((noinline)) u32 leaf(const u8 *p, u32 n) {
  u32 s = 0;
  while (n--) s = s * 31 + *p++;
  return s;
}
EXPORT(leaves) {
  u32 n = 0;
  for (int r = 0; r < ROUNDS; r++)
    for (int i = 0; i < SIZE; i += 16) n += leaf(data + i, 16);
  return n;
}

EXPORT(words) {
  u64 n = 0;
  for (int r = 0; r < 8 * ROUNDS; r++)
    for (int i = 0; i < SIZE / 8; i++) n = n * 3 + ((u64 *)data)[i];
  return (u32)n;
}

EXPORT(search) {
  u32 n = 0;
  for (int r = 0; r < ROUNDS; r++)
    for (int i = 0; i < SIZE; i++)
      if (data[i] == (u8)r && (i & 3)) n ^= i;
  return n;
}
