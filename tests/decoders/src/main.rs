//! Lists the decoders and writes their samples, for `tests/fuzz`.

use std::path::PathBuf;

use baton_decoders::TARGETS;

fn main() -> std::io::Result<()> {
    let into = std::env::args_os().nth(1).map(PathBuf::from);
    for target in &TARGETS {
        println!("{}", target.name);
        if let Some(into) = &into {
            let corpus = into.join(target.name);
            std::fs::create_dir_all(&corpus)?;
            std::fs::write(corpus.join("sample"), (target.sample)())?;
        }
    }
    Ok(())
}
