// Moves its connections to other numbers with fd_renumber (refusing that is
// fine), then relays with whatever works.
#include "../watm_test.h"
static void renumber(void);
#define BEFORE_RELAY() renumber()
#include "../watm_relay.h"
static void renumber(void) {
  i32 err = fd_renumber(caller, 500);
  say_result("caller to 500", err);
  if (!err) caller = 500;
  say_result("500 to itself", fd_renumber(caller, caller));
  say_result("closed to 501", fd_renumber(900, 501));
  err = fd_renumber(network, 1);
  say_result("network to 1", err);
  if (!err) network = 1;
  send_report(caller);
}
