// Passthrough in Rust, on its standard library, for both ABIs (--cfg v0 or
// --cfg v1), written as the published Rust modules are: descriptors become
// std::net::TcpStream and std::fs::File, read and write are their methods, and
// dropping them at the end closes the descriptors. With --cfg sock the
// connections are used through sock_recv and sock_send.
//
// There is no marker export in the v0 build. There is no start function either,
// as a stable compiler makes none for a library: instead the linker wraps every
// export in one that runs the C library's constructors before the call and its
// destructors after it. With --cfg reactor there is _initialize, and no wrapping.
//
// The behaviour is that of watm_relay.h: see there what it is on purpose.
use std::fs::File;
use std::io::Read;
#[cfg(not(sock))]
use std::io::{ErrorKind, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::wasi::io::{AsRawFd, FromRawFd};

const EAGAIN: i32 = 6;
const ECANCELED: i32 = 11;
const EINVAL: i32 = 28;
const EINTR: i32 = 27;
const EIO: i32 = 29;
const BUF_SIZE: usize = 8192;

#[link(wasm_import_module = "env")]
extern "C" {
    #[cfg_attr(v0, link_name = "host_dial")]
    #[cfg_attr(v1, link_name = "water_dial_fixed")]
    fn net_dial() -> i32;
    #[cfg_attr(v0, link_name = "host_accept")]
    #[cfg_attr(v1, link_name = "water_accept")]
    fn net_accept() -> i32;
    #[cfg(v0)]
    fn pull_config() -> i32;
    #[cfg(v1)]
    fn water_dial(net: *const Iov, nnet: i32, addr: *const Iov, naddr: i32) -> i32;
}

#[cfg(any(v1, sock))]
#[repr(C)]
struct Iov {
    base: *const u8,
    len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Subscription {
    userdata: u64,
    tag: u64,
    fd: u64,
    unused: [u64; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Event {
    userdata: u64,
    error: u16,
    kind: u8,
    nbytes: u64,
    flags: u16,
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
extern "C" {
    fn poll_oneoff(sub: *const Subscription, ev: *mut Event, n: usize, got: *mut usize) -> i32;
    #[cfg(sock)]
    fn sock_recv(fd: i32, v: *const Iov, n: usize, flags: i32, got: *mut usize, out: *mut u16) -> i32;
    #[cfg(sock)]
    fn sock_send(fd: i32, v: *const Iov, n: usize, flags: i32, got: *mut usize) -> i32;
}

#[cfg(reactor)]
extern "C" {
    fn __wasm_call_ctors();
}

#[cfg(reactor)]
#[no_mangle]
pub extern "C" fn _initialize() {
    unsafe { __wasm_call_ctors() }
}

struct State {
    config: String,
    control: Option<File>,
    caller: Option<TcpStream>,
    network: Option<TcpStream>,
}

static mut STATE: State = State { config: String::new(), control: None, caller: None, network: None };

// One instance is one thread, so there is only ever one user of the state.
fn state() -> &'static mut State {
    unsafe { &mut *std::ptr::addr_of_mut!(STATE) }
}

fn errno(err: std::io::Error) -> i32 {
    -err.raw_os_error().unwrap_or(EIO)
}

#[cfg_attr(v0, export_name = "_water_init")]
#[cfg_attr(v1, export_name = "watm_init_v1")]
pub extern "C" fn init() -> i32 {
    #[cfg(v0)]
    {
        let fd = unsafe { pull_config() };
        if fd >= 0 {
            let mut file = unsafe { File::from_raw_fd(fd) };
            if let Err(err) = file.read_to_string(&mut state().config) {
                return errno(err);
            }
        }
    }
    #[cfg(v1)]
    {
        state().config = std::fs::read_to_string("/conf/watm.cfg").unwrap_or_default();
    }
    println!("plain.rs: {} bytes of configuration", state().config.len());
    0
}

fn join(caller: i32, network: i32) -> i32 {
    if network < 0 {
        return network;
    }
    let caller = unsafe { TcpStream::from_raw_fd(caller) };
    let stream = unsafe { TcpStream::from_raw_fd(network) };
    for s in [&caller, &stream] {
        if let Err(err) = s.set_nonblocking(true) {
            return errno(err);
        }
    }
    state().caller = Some(caller);
    state().network = Some(stream);
    network
}

#[cfg_attr(v0, export_name = "_water_dial")]
#[cfg_attr(v1, export_name = "watm_dial_v1")]
pub extern "C" fn dial(caller: i32) -> i32 {
    join(caller, unsafe { net_dial() })
}

#[cfg(v1)]
#[export_name = "watm_dial_fixed_v1"]
pub extern "C" fn dial_fixed(caller: i32) -> i32 {
    let address = state().config.trim();
    if address.is_empty() {
        return -EINVAL;
    }
    let net = Iov { base: b"tcp".as_ptr(), len: 3 };
    let addr = Iov { base: address.as_ptr(), len: address.len() };
    join(caller, unsafe { water_dial(&net, 1, &addr, 1) })
}

#[cfg_attr(v0, export_name = "_water_accept")]
#[cfg_attr(v1, export_name = "watm_accept_v1")]
pub extern "C" fn accept(caller: i32) -> i32 {
    join(caller, unsafe { net_accept() })
}

#[cfg_attr(v0, export_name = "_water_associate")]
#[cfg_attr(v1, export_name = "watm_associate_v1")]
pub extern "C" fn associate() -> i32 {
    let from = unsafe { net_accept() };
    if from < 0 {
        return from;
    }
    join(from, unsafe { net_dial() }).min(0)
}

#[cfg_attr(v0, export_name = "_water_cancel_with")]
#[cfg_attr(v1, export_name = "watm_ctrlpipe_v1")]
pub extern "C" fn ctrlpipe(fd: i32) -> i32 {
    state().control = Some(unsafe { File::from_raw_fd(fd) });
    0
}

#[cfg(not(sock))]
fn receive(mut from: &TcpStream, buf: &mut [u8]) -> Result<usize, i32> {
    from.read(buf).map_err(|err| if err.kind() == ErrorKind::WouldBlock { -EAGAIN } else { errno(err) })
}

#[cfg(not(sock))]
fn send(mut to: &TcpStream, buf: &[u8]) -> Result<usize, i32> {
    to.write(buf).map_err(errno)
}

#[cfg(sock)]
fn receive(from: &TcpStream, buf: &mut [u8]) -> Result<usize, i32> {
    let v = Iov { base: buf.as_ptr(), len: buf.len() };
    let (mut n, mut flags) = (0, 0);
    match unsafe { sock_recv(from.as_raw_fd(), &v, 1, 0, &mut n, &mut flags) } {
        0 => Ok(n),
        err => Err(-err),
    }
}

#[cfg(sock)]
fn send(to: &TcpStream, buf: &[u8]) -> Result<usize, i32> {
    let v = Iov { base: buf.as_ptr(), len: buf.len() };
    let mut n = 0;
    match unsafe { sock_send(to.as_raw_fd(), &v, 1, 0, &mut n) } {
        0 => Ok(n),
        err => Err(-err),
    }
}

// Moves bytes one way until the source has no more for now. Err holds the
// worker's result.
fn pump(from: &TcpStream, to: &TcpStream, buf: &mut [u8]) -> Result<(), i32> {
    loop {
        let n = match receive(from, buf) {
            Err(err) if err == -EAGAIN => return Ok(()),
            Err(err) => return Err(err),
            Ok(0) => return Err(0),
            Ok(n) => n,
        };
        if send(to, &buf[..n])? != n {
            return Err(-EIO);
        }
    }
}

#[cfg_attr(v0, export_name = "_water_worker")]
#[cfg_attr(v1, export_name = "watm_start_v1")]
pub extern "C" fn start() -> i32 {
    let (mut control, caller, network) =
        match (state().control.take(), state().caller.take(), state().network.take()) {
            (Some(a), Some(b), Some(c)) => (a, b, c),
            _ => return -EINVAL,
        };
    let mut buf = vec![0; BUF_SIZE];
    let fds = [control.as_raw_fd(), caller.as_raw_fd(), network.as_raw_fd()];
    loop {
        let mut sub = [Subscription { userdata: 0, tag: 1, fd: 0, unused: [0; 3] }; 3];
        for i in 0..3 {
            sub[i].userdata = i as u64;
            sub[i].fd = fds[i] as u64;
        }
        let mut ev = [MaybeUninit::<Event>::uninit(); 3];
        let mut got = 0;
        let err = unsafe { poll_oneoff(sub.as_ptr(), ev.as_mut_ptr().cast(), 3, &mut got) };
        if err == EINTR {
            continue;
        }
        if err != 0 {
            return -err;
        }
        for e in &ev[..got] {
            let e = unsafe { e.assume_init() };
            let result = match e.userdata {
                0 => {
                    // One blocking read: the poll said that there is something.
                    let mut byte = [0];
                    match control.read(&mut byte) {
                        #[cfg(v1)]
                        Ok(1) if byte[0] != 0 => Ok(()),
                        _ => Err(-ECANCELED),
                    }
                }
                1 => pump(&caller, &network, &mut buf),
                _ => pump(&network, &caller, &mut buf),
            };
            if let Err(result) = result {
                return result;
            }
        }
    }
}
