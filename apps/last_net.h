// What happens where not even an exception can be had: the program ends with a message and kFailed all the
// same.
#pragma once

namespace curdkv::app {

// Writes "error: out of memory" without allocating.
void say_out_of_memory();

// Takes now what cannot be done without later, where memory is limited: the stack that main's thread may
// need, as the kernel would end the process if it could not grow, and what the C library throws exceptions
// with.
void prepare_for_no_memory();

}  // namespace curdkv::app
