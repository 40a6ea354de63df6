# The texts of src/eval/builtin.h and src/report/page_texts.h as a source file; made anew when a text changes.
function(curdkv_builtin_texts out)
  set(texts adjectives=src/eval/builtin/adjectives.txt nouns=src/eval/builtin/nouns.txt
            haystack=demo/harbour_report.txt style=src/report/page.css
            script=src/report/document_view.js)
  foreach(text ${texts})
    string(REGEX MATCH "([a-z]+)=(.*)" _ ${text})
    file(READ ${PROJECT_SOURCE_DIR}/${CMAKE_MATCH_2} ${CMAKE_MATCH_1})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${CMAKE_MATCH_2})
  endforeach()
  configure_file(${PROJECT_SOURCE_DIR}/cmake/builtin_texts.cpp.in ${PROJECT_BINARY_DIR}/builtin_texts.cpp @ONLY)
  set(${out} ${PROJECT_BINARY_DIR}/builtin_texts.cpp PARENT_SCOPE)
endfunction()
