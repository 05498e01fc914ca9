// A client that checks the arguments of a bridge line without a connection, and can do
// nothing else. With -DMANY it serves many connections only.
//
//   -DDIALS       it dials while it checks
//   -DWRONG_TYPE  the check has a parameter
//   -DSELF_TEST=N its test of itself returns N; with -DTEST_DIALS it dials, with -DTEST_HANGS
//                 it does not return, with -DTEST_TYPE it has a parameter
#include "watm_test.h"

ENV(water_dial_fixed)(void);

EXPORT("watm_init_v1") i32 init(void) { return 0; }

#ifdef MANY
EXPORT("watm_dial_many_v1") i32 dial_many(i32 control) { return -EPROTO; }
#else
EXPORT("watm_dial_v1") i32 dial(i32 caller) { return water_dial_fixed(); }
EXPORT("watm_ctrlpipe_v1") i32 ctrlpipe(i32 control) { return 0; }
EXPORT("watm_start_v1") i32 start(void) { return -EPROTO; }
#endif

#if defined(WRONG_TYPE)
EXPORT("watm_check_args_v1") i32 check_args(i32 x) { return 0; }
#elif defined(DIALS)
EXPORT("watm_check_args_v1") i32 check_args(void) { return water_dial_fixed(); }
#else
EXPORT("watm_check_args_v1") i32 check_args(void) { return -EINVAL; }
#endif

#if defined(TEST_DIALS)
EXPORT("watm_self_test_v1") i32 self_test(void) { return water_dial_fixed(); }
#elif defined(TEST_HANGS)
EXPORT("watm_self_test_v1") i32 self_test(void) { for (volatile int i = 0;; i++); }
#elif defined(TEST_TYPE)
EXPORT("watm_self_test_v1") i32 self_test(i32 x) { return 0; }
#elif defined(SELF_TEST)
EXPORT("watm_self_test_v1") i32 self_test(void) { return SELF_TEST; }
#endif
