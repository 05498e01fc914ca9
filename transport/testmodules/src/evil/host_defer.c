// v0: calls the obsolete host_defer, in every function; it has to do nothing.
#define OWN_INIT
#include "../watm_test.h"
#define BEFORE_RELAY() host_defer()
#define AFTER_DIAL(fd) (host_defer(), 0)
#define AFTER_ACCEPT(fd) (host_defer(), 0)
#include "../watm_relay.h"
EXPORT_INIT i32 init(void) {
  host_defer();
  return 0;
}
