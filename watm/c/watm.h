// For transport modules in C: the host's functions, and the records by which host and
// module talk in an instance that serves many connections. docs/abi.md says what they
// mean; plain.c is a whole module. They use wasi-libc, except for those with threads
// (compiled with -matomics), for which there is watm_threads.h.
#ifndef WATM_H
#define WATM_H

#ifdef __wasm_atomics__
#include "watm_threads.h"
#else
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#endif

// WATM_EXPORT gives a function the name by which the host calls it.
#define WATM_EXPORT(name) __attribute__((export_name(name), used))

// A client's module whose bridge line has arguments may export a function that checks
// them without a connection:
//
//   WATM_EXPORT("watm_check_args_v1") int32_t check_args(void);
//
// The host calls it after watm_init_v1 in an instance that it started for nothing else.
// The arguments are in the file /watm/args. The result is 0, or, with the reason in the
// file /watm/error, the negative of an error number: -WATM_BAD_ARGS. The functions that
// dial must refuse the same arguments, best with the same number.
enum { WATM_BAD_ARGS = 28 };  // EINVAL

// A module may export a test of itself, which a host runs before it takes a new version:
//
//   WATM_EXPORT("watm_self_test_v1") int32_t self_test(void);
//
// The host calls it after watm_init_v1 in an instance that it started for nothing else, and
// that has no network. The result is 0, or, with the reason in the file /watm/error, the
// negative of an error number.

// What a record on the control descriptor begins with; size bytes follow.
struct watm_record {
  uint16_t kind;
  uint16_t flags;
  uint32_t id;       // the connection
  uint32_t request;  // links an answer to what was asked
  int32_t value;     // a descriptor, or an error number
  uint32_t size;     // of the payload
};
_Static_assert(sizeof(struct watm_record) == 20, "the layout of a record");

// A buffer of this size holds any record with its payload.
enum { WATM_MAX_RECORD = 4096 };

// Records from the host.
enum {
  WATM_OPEN = 1,
  WATM_INCOMING,
  WATM_DIALED,
  WATM_CALLER,
  WATM_READABLE,
  WATM_WRITABLE,
  WATM_CLOSE,
  WATM_ABORT,
  WATM_END,
};

// Records from the module.
enum {
  WATM_READY = 16,
  WATM_FAIL,
  WATM_DIAL,
  WATM_ACCEPT,
  WATM_CONNECT,
  WATM_KEEP_OPEN,
};

// A flag of WATM_DIAL and WATM_ACCEPT.
enum { WATM_MULTIPLEXED = 1 };

// watm_send gives the host a record, which takes it at once. It returns 0 or an
// error number.
static inline int watm_send(int control, struct watm_record r, const void *payload) {
  struct iovec parts[2] = {{&r, sizeof r}, {(void *)payload, r.size}};
#ifdef __wasm_atomics__
  uint32_t written;
  return fd_write(control, parts, r.size > 0 ? 2 : 1, &written);
#else
  return writev(control, parts, r.size > 0 ? 2 : 1) < 0 ? errno : 0;
#endif
}

// watm_next takes the first record from what was read, which is *at up to end. It
// returns the payload, or NULL if no record is left.
static inline const char *watm_next(const char **at, const char *end, struct watm_record *r) {
  size_t left = end - *at;
  if (left < sizeof *r) return NULL;
  __builtin_memcpy(r, *at, sizeof *r);
  if (r->size > left - sizeof *r) return NULL;
  const char *payload = *at + sizeof *r;
  *at = payload + r->size;
  return payload;
}

// What a module in an instance of its own for each connection imports. Where an
// instance serves many, these return -ENOTSUP.
#define WATM_IMPORT(name) __attribute__((import_module("env"), import_name(#name))) int32_t name
WATM_IMPORT(water_dial)(const struct iovec *network, int32_t networks,
                        const struct iovec *address, int32_t addresses);
WATM_IMPORT(water_dial_fixed)(void);
WATM_IMPORT(water_accept)(void);

#endif
