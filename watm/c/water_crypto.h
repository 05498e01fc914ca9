// The host's cryptography, for modules in C: see docs/abi.md, "Cryptography", for what the
// functions do, and for their limits. It needs no C library. A result below 0 is the
// negative of a WASI error number, and nothing has been written then; what a result from 0
// on means is said where it is more than success.
#ifndef WATER_CRYPTO_H
#define WATER_CRYPTO_H

#include <stdint.h>

#define WATER_CRYPTO(name) \
  __attribute__((import_module("water_crypto_v1"), import_name(#name))) extern int32_t water_##name

// A tag, which each sealed message ends with; a box begins with it.
enum { WATER_TAG = 16 };

// XSalsa20-Poly1305 as in NaCl; keys have 32 bytes, nonces 24.
WATER_CRYPTO(secretbox_seal)(const void *key, const void *nonce, const void *src, uint32_t n, void *dst);
WATER_CRYPTO(secretbox_open)(const void *key, const void *nonce, const void *src, uint32_t n, void *dst);

// A message of many. The results are how many are done.
struct water_box {
  const void *nonce, *src;
  uint32_t n;
  void *dst;
};
WATER_CRYPTO(secretbox_seal_many)(const void *key, const struct water_box *boxes, uint32_t count);
WATER_CRYPTO(secretbox_open_many)(const void *key, const struct water_box *boxes, uint32_t count);

// Streams of bytes, XORed with src.
WATER_CRYPTO(salsa20_xor)(const void *key, const void *nonce, uint32_t nonce_len, const void *src, uint32_t n, void *dst);
WATER_CRYPTO(chacha20_xor)(const void *key, const void *nonce, uint32_t nonce_len, uint32_t block, const void *src, uint32_t n, void *dst);
WATER_CRYPTO(aes_ctr_xor)(const void *key, uint32_t key_len, const void *iv, const void *src, uint32_t n, void *dst);

// Ciphers with authentication. aead_new returns a handle, which aead_free gives back.
enum { WATER_AES_GCM = 1, WATER_CHACHA20_POLY1305 = 2, WATER_XCHACHA20_POLY1305 = 3 };
WATER_CRYPTO(aead_new)(uint32_t algorithm, const void *key, uint32_t key_len);
WATER_CRYPTO(aead_seal)(int32_t handle, const void *nonce, uint32_t nonce_len, const void *aad, uint32_t aad_len, const void *src, uint32_t n, void *dst);
WATER_CRYPTO(aead_open)(int32_t handle, const void *nonce, uint32_t nonce_len, const void *aad, uint32_t aad_len, const void *src, uint32_t n, void *dst);
WATER_CRYPTO(aead_free)(int32_t handle);

// A message of many. The results are how many are done.
struct water_frame {
  const void *nonce;
  uint32_t nonce_len;
  const void *aad;
  uint32_t aad_len;
  const void *src;
  uint32_t n;
  void *dst;
};
WATER_CRYPTO(aead_seal_many)(int32_t handle, const struct water_frame *frames, uint32_t count);
WATER_CRYPTO(aead_open_many)(int32_t handle, const struct water_frame *frames, uint32_t count);

// Hashes, and what is made of them.
enum { WATER_SHA1 = 1, WATER_SHA256 = 2, WATER_SHA512 = 3 };
WATER_CRYPTO(hash)(uint32_t function, const void *src, uint32_t n, void *dst);
WATER_CRYPTO(hmac)(uint32_t function, const void *key, uint32_t key_len, const void *src, uint32_t n, void *dst);
WATER_CRYPTO(hkdf)(uint32_t function, const void *secret, uint32_t secret_len, const void *salt, uint32_t salt_len, const void *info, uint32_t info_len, void *dst, uint32_t n);
WATER_CRYPTO(blake3_derive_key)(const void *context, uint32_t context_len, const void *material, uint32_t material_len, void *dst, uint32_t n);

// X25519, and the representatives that public keys have by Elligator 2. Keys and
// representatives have 32 bytes. elligator2_key returns 1, or 0 if this private key has
// none.
WATER_CRYPTO(x25519)(const void *private_key, const void *public_key, void *dst);
WATER_CRYPTO(elligator2_key)(const void *private_key, uint32_t tweak, void *public_key, void *representative);
WATER_CRYPTO(elligator2_public)(const void *representative, void *dst);

#endif
