// Parameters that every press has: how the rows that it keeps are held, and what a ratio is of.
#pragma once

#include <string>
#include <vector>

#include "curdkv/press.h"
#include "press/params.h"

namespace curdkv {

std::vector<PressParam> held_params();  // of none too, which keeps all: "keys", "values"
std::vector<PressParam> row_params();   // the same, and "ratio_of"

RowType row_type_of(const std::string& name);

// The press as it would be asked for; `table`: all its parameters. How rows are held is left out where it
// goes without saying.
std::string spec_of(const PressRequest& request, const std::vector<PressParam>& table);

// Errors: bad_argument for one budget of bytes with what it leaves nothing to, or that is in tokens.
Result<void> check_byte_share(const Press& press, const std::string& selection);

}  // namespace curdkv
