//! The names of nerdctl's containers. nerdctl keeps one file for each name: `DATA_ROOT/STORE/names/NAMESPACE/NAME`, which contains the
//! container's id (<https://github.com/containerd/nerdctl/blob/main/docs/dir.md>). Stores are containerd's sockets, by hash.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::not_listed;
use super::table::Table;
use crate::sources::workloads::name::{is_container_id, Kind, Name, Origin};

/// The most files and folders that are looked at, in all.
const MAX_FILES: usize = 16 * 1024;
/// The longest content of a file, in bytes: an id has 64.
const MAX_ID: u64 = 128;

/// Reads the names below nerdctl's data root. `None`: there are none.
pub(super) fn read(data_root: &Path) -> Result<Option<Table>, String> {
    read_up_to(data_root, MAX_FILES)
}

fn read_up_to(data_root: &Path, max_files: usize) -> Result<Option<Table>, String> {
    let mut folders = Folders {
        left: max_files,
        left_out: 0,
    };
    let stores = folders.list(data_root)?;
    let mut table = stores.is_some().then(Table::default);
    for store in stores.into_iter().flatten() {
        let namespaces = folders.list(&store.join("names"))?;
        for namespace in namespaces.into_iter().flatten() {
            for file in folders.list(&namespace)?.into_iter().flatten() {
                let name = file.file_name().and_then(|name| name.to_str());
                if let (Some(table), Some(name), Some(id)) = (&mut table, name, read_id(&file)) {
                    let origin = Origin {
                        runtime: Some("containerd"),
                        ..Origin::default()
                    };
                    table.add_container(&id, Name::new(Kind::Container, name), origin);
                }
            }
        }
    }
    if let Some(table) = &mut table {
        table.left_out += folders.left_out;
    }
    Ok(table)
}

/// Lists folders, up to a number of entries.
struct Folders {
    left: usize,
    /// How many folders have more entries than were looked at.
    left_out: u64,
}

impl Folders {
    /// The entries of a folder. `None`: the folder does not exist, or this is no folder.
    fn list(&mut self, folder: &Path) -> Result<Option<Vec<PathBuf>>, String> {
        let failed = |error| not_listed(folder, &error);
        let mut entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                    _ => Err(failed(error)),
                }
            }
        };
        let looked_at = entries.by_ref().take(self.left);
        let looked_at = looked_at.map(|entry| Ok(entry?.path()));
        let looked_at: Vec<_> = looked_at.collect::<io::Result<_>>().map_err(failed)?;
        self.left -= looked_at.len();
        self.left_out += u64::from(entries.next().is_some());
        Ok(Some(looked_at))
    }
}

/// The id that a file contains. `None`: the file is not one of nerdctl's, such as its lock, or has just been removed.
fn read_id(file: &Path) -> Option<String> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    let file: File = options.open(file).ok()?;
    let mut id = String::new();
    file.take(MAX_ID).read_to_string(&mut id).ok()?;
    let id = id.trim();
    is_container_id(id).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::Tree;
    use crate::sources::workloads::name::Workload;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";

    fn name_of(table: &Table, id: String) -> Option<String> {
        let found = table.find(&Workload {
            name: Name::new(Kind::Container, &id[..12]),
            origin: Origin {
                container_id: Some(id),
                ..Origin::default()
            },
        });
        found.map(|found| found.workload.name.name)
    }

    #[test]
    fn names_are_the_files_that_contain_an_id() {
        let tree = Tree::new(&[]);
        let root = tree.path("nerdctl");
        assert_eq!(read(&root).unwrap(), None);
        for (file, content) in [
            ("1935db59/names/default/web", format!("{ID}1")),
            ("1935db59/names/buildkit/build-1", format!("{ID}2\n")),
            ("2a3b4c5d/names/default/web", format!("{ID}3")),
            // nerdctl's lock, and what is not its own.
            ("1935db59/names/default/.lock", String::new()),
            ("1935db59/names/default/long", ID.repeat(100)),
            ("1935db59/names/default/text", "no id".to_string()),
            ("1935db59/volumes/default/data", String::new()),
            ("1935db59/names/a-file", format!("{ID}4")),
            ("a-file", String::new()),
        ] {
            tree.write(&format!("nerdctl/{file}"), content);
        }
        tree.fifo("nerdctl/1935db59/names/default/pipe");
        tree.link("nerdctl/1935db59/names/default/link", "web");
        let table = read(&root).unwrap().unwrap();
        assert_eq!((table.len(), table.left_out), (3, 0));
        assert_eq!(name_of(&table, format!("{ID}1")).unwrap(), "web");
        assert_eq!(name_of(&table, format!("{ID}2")).unwrap(), "build-1");
        assert_eq!(name_of(&table, format!("{ID}3")).unwrap(), "web");
        assert_eq!(name_of(&table, format!("{ID}4")), None);
    }

    #[test]
    fn names_beyond_the_limit_are_counted() {
        let tree = Tree::new(&[]);
        for name in ["a", "b", "c"] {
            tree.write(
                &format!("nerdctl/1/names/default/{name}"),
                format!("{ID}{name}"),
            );
        }
        let read = |max| {
            let table = read_up_to(&tree.path("nerdctl"), max).unwrap().unwrap();
            (table.len(), table.left_out)
        };
        // One for the store, one for the namespace, and the files.
        assert_eq!(read(6), (3, 0));
        assert_eq!(read(5), (3, 0));
        assert_eq!(read(4), (2, 1));
    }
}
