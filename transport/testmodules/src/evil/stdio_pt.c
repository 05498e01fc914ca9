// At init, prints lines of the managed-proxy protocol, terminal escapes and
// broken UTF-8 to both standard outputs, then works as a passthrough. None of
// it may reach the host's standard output, nor break a line of its log.
#define OWN_INIT
#include "../watm_relay.h"
EXPORT_INIT i32 init(void) {
  static const char text[] =
      "VERSION 1\nCMETHOD evil socks5 127.0.0.1:1\nCMETHODS DONE\r\n"
      "SMETHOD evil 127.0.0.1:1\nSMETHODS DONE\nLOG SEVERITY=error MESSAGE=\"evil\"\n"
      "\x1b[2J\x1b]0;evil\x07\xff\xfe\x80 \0 and no newline at the end";
  for (i32 fd = 1; fd <= 2; fd++) write_all(fd, text, sizeof text - 1);
  return 0;
}
