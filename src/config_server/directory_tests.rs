use super::super::store::Change;
use super::*;

/// A directory of one test, removed when it goes.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("eme-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

fn text(store: &Directory, name: &str) -> Option<String> {
    let stored = store.get(&id(name)).unwrap()?;
    Some(String::from_utf8(stored.text).unwrap())
}

/// All that a scan finds.
fn listed(store: &Directory) -> Vec<(DeviceId, Result<Look, Failure>)> {
    let mut all = Vec::new();
    let found = &mut |id, look| all.push((id, look));
    store.scan(&|_| None, found).unwrap();
    all
}

/// What has changed since this was asked last.
fn touched(store: &Directory) -> Vec<String> {
    match store.changes().unwrap() {
        Changes::All => {
            store.scan(&|_| None, &mut |_, _| {}).unwrap();
            vec!["all".to_string()]
        }
        Changes::These(changes) => {
            let name = |change| match change {
                Change::Touched(id) => id.to_string(),
                other => panic!("{other:?}"),
            };
            let mut names: Vec<_> = changes.into_iter().map(name).collect();
            names.sort();
            names
        }
    }
}

#[test]
fn what_is_put_is_there_afterwards() {
    let dir = Dir::new("put");
    let store = Directory::open(&dir.0).unwrap();
    assert_eq!(listed(&store), []);
    let edge = id("edge-01");
    assert_eq!(store.swap(&edge, None, Some("port: 1\n")), Ok(true));
    let first = store.get(&edge).unwrap().unwrap();
    assert_eq!(store.swap(&edge, None, Some("port: 2\n")), Ok(false));
    assert_eq!(store.swap(&edge, Some(&first), Some("port: 3\n")), Ok(true));
    assert_eq!(
        store.swap(&edge, Some(&first), Some("port: 4\n")),
        Ok(false)
    );
    assert_eq!(store.swap(&edge, Some(&first), None), Ok(false));
    assert_eq!(text(&store, "edge-01").as_deref(), Some("port: 3\n"));
    drop(store);
    let store = Directory::open(&dir.0).unwrap();
    let found = listed(&store);
    assert_eq!(found.len(), 1);
    let now = store.get(&edge).unwrap().unwrap();
    assert_eq!(found[0].1, Ok(Look::New(now.clone())));
    store.note(&edge, "a note").unwrap();
    assert_eq!(
        store.notes().unwrap(),
        [(edge.clone(), "a note".to_string())]
    );
    assert_eq!(store.swap(&edge, Some(&now), None), Ok(true));
    assert_eq!(store.swap(&edge, Some(&now), None), Ok(false));
    assert_eq!(store.swap(&edge, None, None), Ok(true));
    assert_eq!((listed(&store).len(), store.notes().unwrap().len()), (0, 0));
    assert_eq!(store.note_on(&edge), Ok(None));
}

#[test]
fn people_may_edit_the_files() {
    let dir = Dir::new("edit");
    let store = Directory::open(&dir.0).unwrap();
    let edge = id("edge-01");
    store.swap(&edge, None, Some("port: 1\n")).unwrap();
    let before = store.get(&edge).unwrap().unwrap();
    let file = dir.0.join("edge-01.yaml");
    fs::write(&file, "port: 2 # mine\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_ne!(store.get(&edge).unwrap().unwrap().etag(), before.etag());
    assert_eq!(
        store.swap(&edge, Some(&before), Some("port: 3\n")),
        Ok(false)
    );
    let now = store.get(&edge).unwrap();
    assert_eq!(store.swap(&edge, now.as_ref(), Some("port: 3\n")), Ok(true));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    // Files that are no device's are left alone, and are no devices.
    for name in ["README", "_x.yaml", ".hidden.yaml", "a b.yaml", "x.yml"] {
        fs::write(dir.0.join(name), "x").unwrap();
    }
    assert_eq!(listed(&store).len(), 1);
    // One that cannot be read costs no other.
    fs::create_dir(dir.0.join("broken.yaml")).unwrap();
    let found = listed(&store);
    assert_eq!(
        found
            .iter()
            .map(|(_, stored)| stored.is_ok())
            .collect::<Vec<_>>(),
        [false, true]
    );
}

#[test]
fn what_was_half_written_is_swept() {
    let dir = Dir::new("sweep");
    drop(Directory::open(&dir.0).unwrap());
    let left = [
        dir.0.join(".edge-01.yaml.7.tmp"),
        dir.0.join(".notes/.edge-01.json.7.tmp"),
    ];
    for file in &left {
        fs::write(file, "por").unwrap();
    }
    fs::write(dir.0.join("edge-01.yaml"), "port: 1\n").unwrap();
    let store = Directory::open(&dir.0).unwrap();
    assert!(left.iter().all(|file| !file.exists()));
    assert_eq!(text(&store, "edge-01").as_deref(), Some("port: 1\n"));
}

#[test]
fn two_servers_do_not_share_a_directory() {
    let dir = Dir::new("alone");
    let first = Directory::open(&dir.0).unwrap();
    let error = Directory::open(&dir.0).err().unwrap();
    assert!(error.contains("etcd://"), "{error}");
    drop(first);
    Directory::open(&dir.0).unwrap();
}

#[test]
fn a_directory_that_cannot_be_is_an_error_that_helps() {
    let dir = Dir::new("file");
    fs::write(&dir.0, "").unwrap();
    let error = Directory::open(&dir.0).err().unwrap();
    fs::remove_file(&dir.0).unwrap();
    assert!(
        error.contains("--store") && error.contains("eme-store-file"),
        "{error}"
    );
}

#[test]
fn of_many_at_once_each_swap_is_one_step() {
    let dir = Dir::new("race");
    let store = Directory::open(&dir.0).unwrap();
    let edge = id("edge-01");
    store.swap(&edge, None, Some("0")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    loop {
                        let now = store.get(&edge).unwrap();
                        let text = String::from_utf8(now.clone().unwrap().text).unwrap();
                        let next = (text.parse::<u32>().unwrap() + 1).to_string();
                        if store.swap(&edge, now.as_ref(), Some(&next)).unwrap() {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(text(&store, "edge-01").as_deref(), Some("40"));
}

#[test]
fn every_change_of_a_file_is_told_before_the_next_question() {
    let dir = Dir::new("told");
    let store = Directory::open(&dir.0).unwrap();
    assert_eq!(touched(&store), ["all"]);
    store.swap(&id("a"), None, Some("port: 1\n")).unwrap();
    fs::write(dir.0.join("b.yaml"), "port: 1\n").unwrap();
    assert_eq!(touched(&store), ["a", "b"]);
    assert_eq!(touched(&store), [""; 0]);
    // Within one tick of the clock, as long, in place.
    for port in 2..9 {
        fs::write(dir.0.join("b.yaml"), format!("port: {port}\n")).unwrap();
        assert_eq!(touched(&store), ["b"]);
    }
    fs::rename(dir.0.join("b.yaml"), dir.0.join("c.yaml")).unwrap();
    assert_eq!(touched(&store), ["b", "c"]);
    fs::set_permissions(dir.0.join("c.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(touched(&store), ["c"]);
    fs::remove_file(dir.0.join("c.yaml")).unwrap();
    assert_eq!(touched(&store), ["c"]);
    // A note is none, and neither is what is being written.
    store.note(&id("a"), "x").unwrap();
    fs::write(dir.0.join(".a.yaml.1.tmp"), "x").unwrap();
    assert_eq!(touched(&store), [""; 0]);
    // Kubernetes swaps a link by which all files are reached.
    std::os::unix::fs::symlink("x", dir.0.join("..data")).unwrap();
    assert_eq!(touched(&store), ["all"]);
    // The directory is another one.
    let away = dir.0.with_extension("away");
    fs::rename(&dir.0, &away).unwrap();
    assert!(matches!(store.changes(), Err(Failure::Broken(_))));
    assert!(matches!(store.get(&id("a")), Err(Failure::Broken(_))));
    fs::create_dir(&dir.0).unwrap();
    assert_eq!(touched(&store), ["all"]);
    fs::write(dir.0.join("d.yaml"), "").unwrap();
    assert_eq!(touched(&store), ["d"]);
    fs::remove_dir_all(&dir.0).unwrap();
    fs::rename(&away, &dir.0).unwrap();
    assert_eq!(touched(&store), ["all"]);
}

#[test]
fn a_file_that_cannot_be_read_is_that_devices_fault_alone() {
    let dir = Dir::new("unreadable");
    let store = Directory::open(&dir.0).unwrap();
    fs::create_dir(dir.0.join("directory.yaml")).unwrap();
    let fifo = dir.0.join("fifo.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::os::unix::fs::symlink("loop.yaml", dir.0.join("loop.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.0.join("dangling.yaml")).unwrap();
    let names = ["dangling", "directory", "fifo", "loop"];
    for name in names {
        match store.get(&id(name)) {
            Err(Failure::Unreadable(why)) => {
                assert!(why.contains(&format!("{name}.yaml")), "{why}")
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let found = listed(&store);
    assert!(found.iter().map(|(id, _)| id.as_str()).eq(names));
    assert!(found
        .iter()
        .all(|(_, look)| matches!(look, Err(Failure::Unreadable(_)))));
}

#[test]
fn a_look_reads_only_what_has_changed() {
    let dir = Dir::new("look");
    let store = Directory::open(&dir.0).unwrap();
    let edge = id("edge-01");
    store.swap(&edge, None, Some("port: 1\n")).unwrap();
    let revision = store.get(&edge).unwrap().unwrap().revision;
    assert_ne!(revision, 0);
    assert_eq!(store.look(&edge, Some(revision)), Ok(Look::Same));
    assert!(matches!(store.look(&edge, None), Ok(Look::New(_))));
    assert!(matches!(store.look(&edge, Some(0)), Ok(Look::New(_))));
    fs::write(dir.0.join("edge-01.yaml"), "port: 10\n").unwrap();
    assert!(matches!(
        store.look(&edge, Some(revision)),
        Ok(Look::New(_))
    ));
    fs::remove_file(dir.0.join("edge-01.yaml")).unwrap();
    assert_eq!(store.look(&edge, Some(revision)), Ok(Look::Gone));
}
