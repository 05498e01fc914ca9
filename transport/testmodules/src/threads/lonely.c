// A module that asks for threads, in the memory that the linker's switches give it.
#include <stdint.h>
#define EXPORT(name) __attribute__((export_name(name), used))

__attribute__((import_module("wasi"), import_name("thread-spawn"))) int32_t spawn(void *arg);

EXPORT("watm_init_v1") int32_t init(void) { return 0; }
EXPORT("watm_dial_v1") int32_t dial(int32_t caller) { return caller; }
EXPORT("watm_ctrlpipe_v1") int32_t ctrlpipe(int32_t control) { return control; }

static volatile int32_t argument;  // without it the linker would leave the memory out
EXPORT("watm_start_v1") int32_t start(void) { return spawn((void *)argument); }
#ifdef OWN_THREAD_START
EXPORT("wasi_thread_start") void begin(int32_t id, void *arg) { (void)id, (void)arg; }
#endif
#ifdef HALF_A_WORKER
EXPORT("watm_background_workers_v1") int32_t workers(void) { return 1; }
#endif
