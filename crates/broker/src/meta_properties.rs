//! `meta.properties` in the data directory, as Apache Kafka writes it: `kafka-metadata-quorum add-controller` and
//! people's scripts read ids there. Nothing here reads it.
use model::TopicId;
use std::io::Write;
use std::path::Path;

const NAME: &str = "meta.properties";

/// Writes it where it does not say so yet. `directory`: the id of this data directory.
pub(crate) fn write(dir: &Path, cluster: &str, node: i32, directory: [u8; 16]) -> std::io::Result<()> {
    // Both are printed as Kafka prints its Uuid.
    let directory = TopicId(directory);
    let text = format!("cluster.id={cluster}\ndirectory.id={directory}\nnode.id={node}\nversion=1\n");
    let path = dir.join(NAME);
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let temporary = dir.join(format!("{NAME}.tmp"));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_kafkas_tools_look_for_and_is_made_good_when_it_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let read = || std::fs::read_to_string(dir.path().join(NAME)).unwrap();
        let text = "cluster.id=a-cluster\ndirectory.id=AQEBAQEBAQEBAQEBAQEBAQ\nnode.id=3\nversion=1\n";
        write(dir.path(), "a-cluster", 3, [1; 16]).unwrap();
        assert_eq!(read(), text);
        std::fs::write(dir.path().join(NAME), "node.id=4\n").unwrap();
        write(dir.path(), "a-cluster", 3, [1; 16]).unwrap();
        assert_eq!(read(), text);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
