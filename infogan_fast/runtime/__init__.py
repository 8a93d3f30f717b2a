"""The device, threads, CUDA graph, profiling, and the loading of the compiled libraries."""
