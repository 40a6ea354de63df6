// rpc_server HOST:PORT: ggml's RPC server, with the CPU of this machine as its device. It ends with who
// started it.
#include <ggml-backend.h>
#include <ggml-rpc.h>
#include <signal.h>
#include <sys/prctl.h>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  ggml_backend_rpc_start_server(argv[1], nullptr, 1, 1, &cpu);
  return 1;  // it goes on until it is killed
}
