"""What benchmarks compare: each contender is a program of its own, so that none disturbs another's loop, threads or heap."""
