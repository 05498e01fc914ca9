//! The host's cryptography, for modules in Rust: see docs/abi.md, "Cryptography", for what
//! the functions do, and for their limits. A result below 0 is the negative of a WASI error
//! number, and nothing has been written then; what a result from 0 on means is said where
//! it is more than success. Pointers need not be aligned, and what is written may overlap
//! what is read: slices of one buffer can be given as raw pointers.
#![allow(dead_code)]

/// A tag, which each sealed message ends with; a box begins with it.
pub const TAG: usize = 16;

// Algorithms of aead_new.
pub const AES_GCM: u32 = 1;
pub const CHACHA20_POLY1305: u32 = 2;
pub const XCHACHA20_POLY1305: u32 = 3;

// Functions of hash, hmac and hkdf.
pub const SHA1: u32 = 1;
pub const SHA256: u32 = 2;
pub const SHA512: u32 = 3;

/// A message of many for secretbox_seal_many and secretbox_open_many.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Box {
    pub nonce: *const u8,
    pub src: *const u8,
    pub n: u32,
    pub dst: *mut u8,
}

/// A message of many for aead_seal_many and aead_open_many.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Frame {
    pub nonce: *const u8,
    pub nonce_len: u32,
    pub aad: *const u8,
    pub aad_len: u32,
    pub src: *const u8,
    pub n: u32,
    pub dst: *mut u8,
}

#[link(wasm_import_module = "water_crypto_v1")]
extern "C" {
    // XSalsa20-Poly1305 as in NaCl; keys have 32 bytes, nonces 24. Those of many return how
    // many are done.
    pub fn secretbox_seal(key: *const u8, nonce: *const u8, src: *const u8, n: u32, dst: *mut u8) -> i32;
    pub fn secretbox_open(key: *const u8, nonce: *const u8, src: *const u8, n: u32, dst: *mut u8) -> i32;
    pub fn secretbox_seal_many(key: *const u8, boxes: *const Box, count: u32) -> i32;
    pub fn secretbox_open_many(key: *const u8, boxes: *const Box, count: u32) -> i32;

    // Streams of bytes, XORed with src.
    pub fn salsa20_xor(key: *const u8, nonce: *const u8, nonce_len: u32, src: *const u8, n: u32, dst: *mut u8) -> i32;
    pub fn chacha20_xor(key: *const u8, nonce: *const u8, nonce_len: u32, block: u32, src: *const u8, n: u32, dst: *mut u8) -> i32;
    pub fn aes_ctr_xor(key: *const u8, key_len: u32, iv: *const u8, src: *const u8, n: u32, dst: *mut u8) -> i32;

    // Ciphers with authentication. aead_new returns a handle, which aead_free gives back.
    // Those of many return how many are done.
    pub fn aead_new(algorithm: u32, key: *const u8, key_len: u32) -> i32;
    pub fn aead_seal(handle: i32, nonce: *const u8, nonce_len: u32, aad: *const u8, aad_len: u32, src: *const u8, n: u32, dst: *mut u8) -> i32;
    pub fn aead_open(handle: i32, nonce: *const u8, nonce_len: u32, aad: *const u8, aad_len: u32, src: *const u8, n: u32, dst: *mut u8) -> i32;
    pub fn aead_seal_many(handle: i32, frames: *const Frame, count: u32) -> i32;
    pub fn aead_open_many(handle: i32, frames: *const Frame, count: u32) -> i32;
    pub fn aead_free(handle: i32) -> i32;

    // Hashes, and what is made of them.
    pub fn hash(function: u32, src: *const u8, n: u32, dst: *mut u8) -> i32;
    pub fn hmac(function: u32, key: *const u8, key_len: u32, src: *const u8, n: u32, dst: *mut u8) -> i32;
    pub fn hkdf(function: u32, secret: *const u8, secret_len: u32, salt: *const u8, salt_len: u32, info: *const u8, info_len: u32, dst: *mut u8, n: u32) -> i32;
    pub fn blake3_derive_key(context: *const u8, context_len: u32, material: *const u8, material_len: u32, dst: *mut u8, n: u32) -> i32;

    // X25519, and the representatives that public keys have by Elligator 2. elligator2_key
    // returns 1, or 0 if this private key has none.
    pub fn x25519(private: *const u8, public: *const u8, dst: *mut u8) -> i32;
    pub fn elligator2_key(private: *const u8, tweak: u32, public: *mut u8, representative: *mut u8) -> i32;
    pub fn elligator2_public(representative: *const u8, dst: *mut u8) -> i32;
}
