# Provides the targets llama, ggml::ggml, llama-common (chat templates, from llama.cpp's common library) and cpp-httplib
# (which llama.cpp brings) from llama.cpp's source, mended (cmake/llama/) and built into the cache by scripts/get_llama.sh: the pinned one, or
# -DCURDKV_LLAMA_DIR=DIR, a source tree that the mends fit.
set(CURDKV_LLAMA_DIR "" CACHE PATH "llama.cpp source tree to build instead of the pinned one")

# What an earlier run found in the cache is looked up anew: the script may by now want another build.
if(CURDKV_LLAMA_PREFIX)
  get_cmake_property(cached CACHE_VARIABLES)
  foreach(name IN LISTS cached)
    if("$CACHE{${name}}" MATCHES "^${CURDKV_LLAMA_PREFIX}/")
      unset(${name} CACHE)
    endif()
  endforeach()
endif()

if(CURDKV_PORTABLE AND (CURDKV_SANITIZE OR NOT x86))
  message(FATAL_ERROR "CURDKV_PORTABLE is for x86-64, and without CURDKV_SANITIZE")
endif()
if(CURDKV_PORTABLE)
  set(flavour --portable)
elseif(CURDKV_SANITIZE STREQUAL "thread")
  set(flavour --thread-sanitizer)
elseif(CURDKV_SANITIZE)
  set(flavour --address-sanitizer)
endif()
if(CMAKE_CROSSCOMPILING)
  set(toolchain --toolchain ${CMAKE_TOOLCHAIN_FILE})
endif()
execute_process(
  COMMAND ${CMAKE_COMMAND} -E env CC=${CMAKE_C_COMPILER} CXX=${CMAKE_CXX_COMPILER}
          ${PROJECT_SOURCE_DIR}/scripts/get_llama.sh ${flavour} ${toolchain} ${CURDKV_LLAMA_DIR}
  OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "llama.cpp could not be fetched and built; the lines above say why")
endif()
set(CURDKV_LLAMA_PREFIX ${prefix} CACHE INTERNAL "where the fetched llama.cpp was built")
find_package(llama CONFIG REQUIRED PATHS ${prefix} NO_DEFAULT_PATH)
file(GLOB common_archives ${prefix}/lib/libllama-common*.a)
add_library(llama-common INTERFACE)
target_include_directories(llama-common SYSTEM INTERFACE ${prefix}/include/llama-common)
# The two archives refer to each other.
target_link_libraries(llama-common INTERFACE -Wl,--start-group ${common_archives} -Wl,--end-group llama)
# What that library was compiled with is what its header must be read with.
add_library(cpp-httplib INTERFACE)
target_include_directories(cpp-httplib SYSTEM INTERFACE ${prefix}/include)
target_compile_definitions(cpp-httplib INTERFACE CPPHTTPLIB_FORM_URL_ENCODED_PAYLOAD_MAX_LENGTH=1048576
  CPPHTTPLIB_LISTEN_BACKLOG=512 CPPHTTPLIB_REQUEST_URI_MAX_LENGTH=32768 CPPHTTPLIB_TCP_NODELAY=1)
target_link_libraries(cpp-httplib INTERFACE ${prefix}/lib/libcpp-httplib.a Threads::Threads)
if(TARGET ggml::ggml-cuda)
  # ggml's package names CUDA's libraries only where those are linked statically, too, and never NCCL, which it uses
  # where it finds it.
  find_package(CUDAToolkit REQUIRED)
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  set_property(TARGET ggml::ggml-cuda APPEND PROPERTY INTERFACE_LINK_LIBRARIES CUDA::cudart CUDA::cublas
                                                      $<$<BOOL:${NCCL_LIBRARY}>:${NCCL_LIBRARY}>)
endif()
message(STATUS "llama.cpp ${LLAMA_VERSION}: ${llama_DIR}")
