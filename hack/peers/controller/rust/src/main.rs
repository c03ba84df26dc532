//! One controller on a server, with the system's allocator: what times are taken from.

fn main() -> std::process::ExitCode {
    controller_bench::main(None)
}
