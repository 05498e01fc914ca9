// ChaCha20 (RFC 8439) with a nonce of zeros, four blocks at a time in SIMD registers.
#ifndef CHACHA20_H
#define CHACHA20_H

#include <stdint.h>

enum { CHACHA20_KEY = 32, CHACHA20_BATCH = 256 };

typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

struct chacha20 {
  uint32_t key[8];
  uint32_t counter;  // of the next block
  unsigned used;     // bytes of the batch below
  _Alignas(16) unsigned char batch[CHACHA20_BATCH];  // what is left of it is next
};

static inline void chacha20_begin(struct chacha20 *c, const unsigned char *key) {
  __builtin_memcpy(c->key, key, CHACHA20_KEY);
  c->counter = 0;
  c->used = CHACHA20_BATCH;
}

static inline u32x4 chacha20_rotate16(u32x4 v) {
  u8x16 b = (u8x16)v;
  return (u32x4)__builtin_shufflevector(b, b, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
}

static inline u32x4 chacha20_rotate8(u32x4 v) {
  u8x16 b = (u8x16)v;
  return (u32x4)__builtin_shufflevector(b, b, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14);
}

#define CHACHA20_QUARTER(a, b, c, d)                      \
  do {                                                    \
    a += b, d = chacha20_rotate16(d ^ a);                 \
    c += d, b ^= c, b = (b << 12) | (b >> 20);            \
    a += b, d = chacha20_rotate8(d ^ a);                  \
    c += d, b ^= c, b = (b << 7) | (b >> 25);             \
  } while (0)

// chacha20_write puts four words of each of the four blocks in their places, xored
// with what is there.
static inline void chacha20_write(unsigned char *p, u32x4 a, u32x4 b, u32x4 c, u32x4 d) {
  u32x4 ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  u32x4 cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  u32x4 rows[4] = {
      __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5), __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7),
      __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5), __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7)};
  for (int i = 0; i < 4; i++) {
    u32x4 text;
    __builtin_memcpy(&text, p + 64 * i, 16);
    text ^= rows[i];
    __builtin_memcpy(p + 64 * i, &text, 16);
  }
}

// chacha20_batch encrypts CHACHA20_BATCH bytes. Each register holds the same word of
// four blocks.
static inline void chacha20_batch(struct chacha20 *c, unsigned char *p) {
  static const uint32_t constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  u32x4 x[16], start[16];
  for (int i = 0; i < 4; i++) start[i] = (u32x4){} + constants[i];
  for (int i = 0; i < 8; i++) start[4 + i] = (u32x4){} + c->key[i];
  start[12] = (u32x4){0, 1, 2, 3} + c->counter;
  start[13] = start[14] = start[15] = (u32x4){};
  for (int i = 0; i < 16; i++) x[i] = start[i];
  for (int i = 0; i < 10; i++) {
    CHACHA20_QUARTER(x[0], x[4], x[8], x[12]);
    CHACHA20_QUARTER(x[1], x[5], x[9], x[13]);
    CHACHA20_QUARTER(x[2], x[6], x[10], x[14]);
    CHACHA20_QUARTER(x[3], x[7], x[11], x[15]);
    CHACHA20_QUARTER(x[0], x[5], x[10], x[15]);
    CHACHA20_QUARTER(x[1], x[6], x[11], x[12]);
    CHACHA20_QUARTER(x[2], x[7], x[8], x[13]);
    CHACHA20_QUARTER(x[3], x[4], x[9], x[14]);
  }
  for (int i = 0; i < 16; i++) x[i] += start[i];
  for (int i = 0; i < 4; i++) chacha20_write(p + 16 * i, x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
  c->counter += 4;
}

// chacha20_xor encrypts or decrypts what comes next, in its place.
static inline void chacha20_xor(struct chacha20 *c, unsigned char *p, unsigned n) {
  for (; n > 0 && c->used < CHACHA20_BATCH; n--) *p++ ^= c->batch[c->used++];
  for (; n >= CHACHA20_BATCH; n -= CHACHA20_BATCH, p += CHACHA20_BATCH) chacha20_batch(c, p);
  if (n == 0) return;
  __builtin_memset(c->batch, 0, CHACHA20_BATCH);
  chacha20_batch(c, c->batch);
  for (c->used = 0; c->used < n; c->used++) p[c->used] ^= c->batch[c->used];
}

#endif
