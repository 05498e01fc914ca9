// One export has a wrong type: -DDIAL_I64 (returns i64), -DDIAL_NOARG,
// -DDIAL_F32 (takes f32), -DSTART_ARG, -DINIT_VOID, -DCTRLPIPE_VOID.
#if defined(DIAL_I64) || defined(DIAL_NOARG) || defined(DIAL_F32)
#define OWN_DIAL
#elif defined(START_ARG)
#define OWN_START
#elif defined(INIT_VOID)
#define OWN_INIT
#elif defined(CTRLPIPE_VOID)
#define OWN_CTRLPIPE
#endif
#include "../watm_relay.h"
#if defined(DIAL_I64)
EXPORT_DIAL i64 dial(i32 fd) { return join(fd, net_dial()); }
#elif defined(DIAL_NOARG)
EXPORT_DIAL i32 dial(void) { return net_dial(); }
#elif defined(DIAL_F32)
EXPORT_DIAL i32 dial(float fd) { return join(fd, net_dial()); }
#elif defined(START_ARG)
EXPORT_START i32 start(i32 unused) { return relay(); }
#elif defined(INIT_VOID)
EXPORT_INIT void init(void) {}
#elif defined(CTRLPIPE_VOID)
EXPORT_CTRLPIPE void ctrlpipe(i32 fd) { control = fd; }
#endif
