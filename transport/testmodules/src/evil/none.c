// Valid WebAssembly, but no transport module: it exports one function "add".
#include "../watm_test.h"
EXPORT("add") i32 add(i32 a, i32 b) { return a + b; }
