#include "faults.h"

#include <csignal>

#include "base/mapped_file.h"

namespace curdkv::app {
namespace {

void on_bus_error(int number, siginfo_t* info, void*) {
  if (repair_mapped_file(info->si_addr)) return;  // the call in progress will end with an error
  std::signal(number, SIG_DFL);                   // the instruction is tried again, and ends the process
}

}  // namespace

void catch_mapped_file_faults() {
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace curdkv::app
