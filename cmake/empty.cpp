// The shared library is made of curdkv_core whole; CMake wants a source file all the same.
