// Faults of mapped files: a model file that is cut short while it is in use is an error, not the end.
#pragma once

namespace curdkv::app {

void catch_mapped_file_faults();

}  // namespace curdkv::app
