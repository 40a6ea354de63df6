// What happens where not even an exception can be had: the program ends with a message and kFailed all the
// same.
#pragma once

namespace curdkv::app {

// Writes "error: out of memory" without allocating.
void say_out_of_memory();

// Takes the stack that main's thread may need now: where memory is limited, the kernel would end the process
// if the stack could not grow later.
void take_stack();

}  // namespace curdkv::app
