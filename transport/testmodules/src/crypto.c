// A client that does nothing but use the host's cryptography at its start: the functions of
// watm/c/water_crypto.h, each at least once. The result names the line that found a fault.
#define WATM_V1
#include "watm_test.h"

#include "../../../watm/c/water_crypto.h"

ENV(water_dial_fixed)(void);

static const u8 key[32] = {1, 2, 3}, nonce[24] = {4, 5, 6}, text[100] = {7, 8, 9};
static u8 first[200], second[200], third[200];

static int same(const u8 *a, const u8 *b, u32 n) {
  while (n--)
    if (*a++ != *b++) return 0;
  return 1;
}

// begins tells whether a result begins with four bytes.
static int begins(const u8 *b, u32 with) {
  return (u32)b[0] << 24 == (with & 0xff000000) && (u32)b[1] << 16 == (with & 0xff0000) &&
         (u32)b[2] << 8 == (with & 0xff00) && b[3] == (with & 0xff);
}

#define MUST(x) \
  if (!(x)) return -__LINE__

static i32 check(void) {
  MUST(water_secretbox_seal(key, nonce, text, 100, first) == 0);
  MUST(water_secretbox_open(key, nonce, first, 100 + WATER_TAG, second) == 0 && same(second, text, 100));
  struct water_box box = {nonce, text, 100, second};
  MUST(water_secretbox_seal_many(key, &box, 1) == 1 && same(first, second, 100 + WATER_TAG));
  box = (struct water_box){nonce, first, 100 + WATER_TAG, second};
  MUST(water_secretbox_open_many(key, &box, 1) == 1 && same(second, text, 100));
  first[3] ^= 1;
  MUST(water_secretbox_open(key, nonce, first, 100 + WATER_TAG, second) < 0);

  MUST(water_salsa20_xor(key, nonce, 8, text, 100, first) == 0 && !same(first, text, 100));
  MUST(water_salsa20_xor(key, nonce, 8, first, 100, first) == 0 && same(first, text, 100));
  MUST(water_chacha20_xor(key, nonce, 12, 1, text, 100, first) == 0 && !same(first, text, 100));
  MUST(water_chacha20_xor(key, nonce, 12, 1, first, 100, first) == 0 && same(first, text, 100));
  MUST(water_aes_ctr_xor(key, 16, nonce, text, 100, first) == 0 && !same(first, text, 100));
  MUST(water_aes_ctr_xor(key, 16, nonce, first, 100, first) == 0 && same(first, text, 100));

  for (u32 alg = WATER_AES_GCM; alg <= WATER_XCHACHA20_POLY1305; alg++) {
    u32 nonce_len = alg == WATER_XCHACHA20_POLY1305 ? 24 : 12;
    i32 handle = water_aead_new(alg, key, 32);
    MUST(handle >= 0);
    MUST(water_aead_seal(handle, nonce, nonce_len, "ad", 2, text, 100, first) == 0);
    MUST(water_aead_open(handle, nonce, nonce_len, "ad", 2, first, 100 + WATER_TAG, second) == 0 && same(second, text, 100));
    struct water_frame frame = {nonce, nonce_len, "ad", 2, text, 100, third};
    MUST(water_aead_seal_many(handle, &frame, 1) == 1 && same(first, third, 100 + WATER_TAG));
    frame = (struct water_frame){nonce, nonce_len, "ad", 2, first, 100 + WATER_TAG, third};
    MUST(water_aead_open_many(handle, &frame, 1) == 1 && same(third, text, 100));
    MUST(water_aead_free(handle) == 0 && water_aead_free(handle) < 0);
  }

  MUST(water_hash(WATER_SHA1, "abc", 3, first) == 0 && begins(first, 0xa9993e36));
  MUST(water_hash(WATER_SHA256, "abc", 3, first) == 0 && begins(first, 0xba7816bf));
  MUST(water_hash(WATER_SHA512, "abc", 3, first) == 0 && begins(first, 0xddaf35a1));
  MUST(water_hmac(WATER_SHA256, "abc", 3, "abc", 3, first) == 0 && begins(first, 0x2f02e24a));
  MUST(water_hkdf(WATER_SHA256, "abc", 3, "abc", 3, "abc", 3, first, 32) == 0 && begins(first, 0xfb71ed96));
  MUST(water_blake3_derive_key("abc", 3, "abc", 3, first, 32) == 0 && begins(first, 0x8d717356));

  // Of some private keys in a row, one has a representative, which stands for its public key.
  u8 private[32] = {1}, base[32] = {9};
  i32 found = 0;
  while (!found && ++private[1]) found = water_elligator2_key(private, 0, first, second);
  MUST(found == 1);
  MUST(water_elligator2_public(second, third) == 0 && same(first, third, 32));
  MUST(water_x25519(key, base, second) == 0 && water_x25519(private, second, third) == 0);
  MUST(water_x25519(key, first, second) == 0 && same(second, third, 32));
  return 0;
}

EXPORT("watm_init_v1") i32 init(void) { return check(); }
EXPORT("watm_dial_v1") i32 dial(i32 caller) { return water_dial_fixed(); }
EXPORT("watm_ctrlpipe_v1") i32 ctrlpipe(i32 control) { return 0; }
EXPORT("watm_start_v1") i32 start(void) { return -EPROTO; }
