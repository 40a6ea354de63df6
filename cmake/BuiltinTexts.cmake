# curdkv_builtin_texts(OUT TEMPLATE NAME=FILE...): a source file made of TEMPLATE, in which @NAME@ stands for the file's
# text; made anew when a text changes. OUT becomes its path.
function(curdkv_builtin_texts out template)
  foreach(text ${ARGN})
    string(REGEX MATCH "([a-z]+)=(.*)" _ ${text})
    file(READ ${PROJECT_SOURCE_DIR}/${CMAKE_MATCH_2} ${CMAKE_MATCH_1})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${CMAKE_MATCH_2})
  endforeach()
  get_filename_component(name ${template} NAME_WLE)
  configure_file(${PROJECT_SOURCE_DIR}/${template} ${PROJECT_BINARY_DIR}/${name} @ONLY)
  set(${out} ${PROJECT_BINARY_DIR}/${name} PARENT_SCOPE)
endfunction()
