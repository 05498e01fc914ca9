// _start ends with proc_exit(CODE), as a C library's does after main; the
// module is otherwise a working passthrough. Code 0 may be taken as success,
// anything else is an error.
#include "../watm_relay.h"
EXPORT("_start") void start_main(void) { proc_exit(CODE); }
