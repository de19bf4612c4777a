# Included at the head of llama-cpp-python's build (run.sh): llama.cpp's programs share a library "common", which takes
# longer to compile than what is tested here.  An ordinary variable wins over the cached one that the package forces on.
set(LLAMA_BUILD_COMMON OFF)
