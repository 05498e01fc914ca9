// What crypto.c does, with watm/rust/water_crypto.rs.
#[path = "../../../watm/rust/water_crypto.rs"]
mod water_crypto;

use std::ptr;
use water_crypto::*;

#[link(wasm_import_module = "env")]
extern "C" {
    fn water_dial_fixed() -> i32;
}

macro_rules! must {
    ($x:expr) => {
        if !($x) {
            return -(line!() as i32);
        }
    };
}

unsafe fn check() -> i32 {
    let (key, nonce, text) = ([1u8; 32], [2u8; 24], [3u8; 100]);
    let (k, n, t) = (key.as_ptr(), nonce.as_ptr(), text.as_ptr());
    let (mut first, mut second, mut third) = ([0u8; 200], [0u8; 200], [0u8; 200]);
    let (a, b, c) = (first.as_mut_ptr(), second.as_mut_ptr(), third.as_mut_ptr());
    let sealed = 100 + TAG as u32;
    let is_text = |p: *const u8| std::slice::from_raw_parts(p, 100) == text;
    let same = |p: *const u8, q: *const u8, n| std::slice::from_raw_parts(p, n) == std::slice::from_raw_parts(q, n);
    let begins = |p: *const u8, with: u32| std::slice::from_raw_parts(p, 4) == with.to_be_bytes();

    must!(secretbox_seal(k, n, t, 100, a) == 0);
    must!(secretbox_open(k, n, a, sealed, b) == 0 && is_text(b));
    let seal = Box { nonce: n, src: t, n: 100, dst: b };
    must!(secretbox_seal_many(k, &seal, 1) == 1 && same(a, b, sealed as usize));
    let open = Box { nonce: n, src: a, n: sealed, dst: b };
    must!(secretbox_open_many(k, &open, 1) == 1 && is_text(b));

    must!(salsa20_xor(k, n, 24, t, 100, a) == 0 && !is_text(a));
    must!(salsa20_xor(k, n, 24, a, 100, a) == 0 && is_text(a));
    must!(chacha20_xor(k, n, 24, 0, t, 100, a) == 0 && !is_text(a));
    must!(chacha20_xor(k, n, 24, 0, a, 100, a) == 0 && is_text(a));
    must!(aes_ctr_xor(k, 32, n, t, 100, a) == 0 && !is_text(a));
    must!(aes_ctr_xor(k, 32, n, a, 100, a) == 0 && is_text(a));

    for (algorithm, nonce_len) in [(AES_GCM, 12), (CHACHA20_POLY1305, 12), (XCHACHA20_POLY1305, 24)] {
        let handle = aead_new(algorithm, k, 32);
        must!(handle >= 0);
        must!(aead_seal(handle, n, nonce_len, ptr::null(), 0, t, 100, a) == 0);
        must!(aead_open(handle, n, nonce_len, ptr::null(), 0, a, sealed, b) == 0 && is_text(b));
        let seal = Frame { nonce: n, nonce_len, aad: ptr::null(), aad_len: 0, src: t, n: 100, dst: c };
        must!(aead_seal_many(handle, &seal, 1) == 1 && same(a, c, sealed as usize));
        let open = Frame { src: a, n: sealed, dst: b, ..seal };
        must!(aead_open_many(handle, &open, 1) == 1 && is_text(b));
        must!(aead_free(handle) == 0 && aead_free(handle) < 0);
    }

    let abc = "abc".as_ptr();
    must!(hash(SHA1, abc, 3, a) == 0 && begins(a, 0xa9993e36));
    must!(hash(SHA256, abc, 3, a) == 0 && begins(a, 0xba7816bf));
    must!(hash(SHA512, abc, 3, a) == 0 && begins(a, 0xddaf35a1));
    must!(hmac(SHA256, abc, 3, abc, 3, a) == 0 && begins(a, 0x2f02e24a));
    must!(hkdf(SHA256, abc, 3, abc, 3, abc, 3, a, 32) == 0 && begins(a, 0xfb71ed96));
    must!(blake3_derive_key(abc, 3, abc, 3, a, 32) == 0 && begins(a, 0x8d717356));

    let mut base = [0u8; 32];
    base[0] = 9;
    let mut private = [4u8; 32];
    while elligator2_key(private.as_ptr(), 0, a, b) == 0 {
        private[1] += 1;
    }
    must!(elligator2_public(b, c) == 0 && same(a, c, 32));
    must!(x25519(k, base.as_ptr(), b) == 0 && x25519(private.as_ptr(), b, c) == 0);
    must!(x25519(k, a, b) == 0 && same(b, c, 32));
    0
}

#[no_mangle]
pub extern "C" fn watm_init_v1() -> i32 {
    unsafe { check() }
}

#[no_mangle]
pub extern "C" fn watm_dial_v1(_caller: i32) -> i32 {
    unsafe { water_dial_fixed() }
}

#[no_mangle]
pub extern "C" fn watm_ctrlpipe_v1(_control: i32) -> i32 {
    0
}

#[no_mangle]
pub extern "C" fn watm_start_v1() -> i32 {
    -65 // EPROTO
}
