// The folder of saved contexts: FOLDER/SPACE/ID.kvc, and ID.pin beside those that stay. Several servers may
// share one. Names are made here of ids, which are hexadecimal digits whatever a request says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/descriptor.h"
#include "curdkv/result.h"

namespace curdkv::server {

bool is_id(const std::string& text);  // 32 hexadecimal digits, as made by context_id()

class ContextFolder {
 public:
  // path "": there is none, and every call below finds nothing. Errors: io if it can be neither found nor
  // made.
  static Result<ContextFolder> open(const std::string& path);
  bool is_there() const { return !path_.empty(); }

  struct File {
    std::string space, id, path;
    int64_t bytes = 0, created = 0, used = 0;  // times in seconds since 1970
    bool pinned = false;
  };
  std::string path_of(const std::string& space, const std::string& id) const;
  std::optional<File> find(const std::string& space, const std::string& id) const;
  std::vector<File> list(const std::string& space) const;  // "": of all spaces

  void touch(const File& file) const;
  Result<void> pin(const File& file, bool pinned) const;
  Result<void> remove(const File& file) const;
  Result<void> make_space(const std::string& space) const;
  // Removes the least recently used files until all take no more than `most` bytes; not the pinned ones, nor
  // `but`. How many.
  int64_t keep_within(int64_t most, const std::string& but) const;

  // Held by the server that reads a context, so that no other one reads it meanwhile; given back when it is
  // dropped, and when the process ends. Nothing if another holds it.
  std::optional<Descriptor> lock(const std::string& space, const std::string& id) const;

 private:
  void remove_remains() const;

  std::string path_;
};

}  // namespace curdkv::server
