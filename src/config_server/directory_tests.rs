use super::super::store::Change;
use super::*;

/// A directory that is removed when it is dropped.
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
    let stored = store.devices().get(&id(name)).unwrap()?;
    Some(String::from_utf8(stored.text).unwrap())
}

/// The results of a scan.
fn listed(store: &Directory) -> Vec<(DeviceId, Result<Lookup, StoreError>)> {
    let mut all = Vec::new();
    let found = &mut |id, look| all.push((id, look));
    store.devices().scan(&|_| None, found).unwrap();
    all
}

/// The names of the devices that changed since the last call; `all` if anything may have changed.
fn touched(store: &Directory) -> Vec<String> {
    match store.devices().changes().unwrap() {
        Changes::Unknown => {
            store.devices().scan(&|_| None, &mut |_, _| {}).unwrap();
            vec!["all".to_string()]
        }
        Changes::Listed(changes) => {
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
fn changes_persist_and_swap_compares_the_text() {
    let dir = Dir::new("put");
    let store = Directory::open(&dir.0).unwrap();
    assert_eq!(listed(&store), []);
    let edge = id("edge-01");
    assert_eq!(
        store
            .devices()
            .compare_and_swap(&edge, None, Some("port: 1\n")),
        Ok(true)
    );
    let first = store.devices().get(&edge).unwrap().unwrap();
    assert_eq!(
        store
            .devices()
            .compare_and_swap(&edge, None, Some("port: 2\n")),
        Ok(false)
    );
    assert_eq!(
        store
            .devices()
            .compare_and_swap(&edge, Some(&first), Some("port: 3\n")),
        Ok(true)
    );
    assert_eq!(
        store
            .devices()
            .compare_and_swap(&edge, Some(&first), Some("port: 4\n")),
        Ok(false)
    );
    assert_eq!(
        store.devices().compare_and_swap(&edge, Some(&first), None),
        Ok(false)
    );
    assert_eq!(text(&store, "edge-01").as_deref(), Some("port: 3\n"));
    drop(store);
    let store = Directory::open(&dir.0).unwrap();
    let found = listed(&store);
    assert_eq!(found.len(), 1);
    let now = store.devices().get(&edge).unwrap().unwrap();
    assert_eq!(found[0].1, Ok(Lookup::Found(now.clone())));
    store.put_note(&edge, "a note").unwrap();
    assert_eq!(
        store.list_notes().unwrap(),
        [(edge.clone(), "a note".to_string())]
    );
    assert_eq!(
        store.devices().compare_and_swap(&edge, Some(&now), None),
        Ok(true)
    );
    assert_eq!(
        store.devices().compare_and_swap(&edge, Some(&now), None),
        Ok(false)
    );
    assert_eq!(
        store.devices().compare_and_swap(&edge, None, None),
        Ok(true)
    );
    assert_eq!(
        (listed(&store).len(), store.list_notes().unwrap().len()),
        (0, 0)
    );
    assert_eq!(store.get_note(&edge), Ok(None));
}

#[test]
fn files_may_be_edited_by_users() {
    let dir = Dir::new("edit");
    let store = Directory::open(&dir.0).unwrap();
    let edge = id("edge-01");
    store
        .devices()
        .compare_and_swap(&edge, None, Some("port: 1\n"))
        .unwrap();
    let before = store.devices().get(&edge).unwrap().unwrap();
    let file = dir.0.join("edge-01.yaml");
    fs::write(&file, "port: 2 # mine\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_ne!(
        store.devices().get(&edge).unwrap().unwrap().etag(),
        before.etag()
    );
    assert_eq!(
        store
            .devices()
            .compare_and_swap(&edge, Some(&before), Some("port: 3\n")),
        Ok(false)
    );
    let now = store.devices().get(&edge).unwrap();
    assert_eq!(
        store
            .devices()
            .compare_and_swap(&edge, now.as_ref(), Some("port: 3\n")),
        Ok(true)
    );
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    // Other files are ignored.
    for name in ["README", "_x.yaml", ".hidden.yaml", "a b.yaml", "x.yml"] {
        fs::write(dir.0.join(name), "x").unwrap();
    }
    assert_eq!(listed(&store).len(), 1);
    // An unreadable file does not affect the others.
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
fn temporary_files_are_removed_at_start() {
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
fn second_server_in_a_directory_is_refused() {
    let dir = Dir::new("alone");
    let first = Directory::open(&dir.0).unwrap();
    let error = Directory::open(&dir.0).err().unwrap();
    assert!(error.contains("etcd://"), "{error}");
    drop(first);
    Directory::open(&dir.0).unwrap();
}

#[test]
fn error_of_opening_names_path_and_option() {
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
fn concurrent_swaps_are_atomic() {
    let dir = Dir::new("race");
    let store = Directory::open(&dir.0).unwrap();
    let edge = id("edge-01");
    store
        .devices()
        .compare_and_swap(&edge, None, Some("0"))
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    loop {
                        let now = store.devices().get(&edge).unwrap();
                        let text = String::from_utf8(now.clone().unwrap().text).unwrap();
                        let next = (text.parse::<u32>().unwrap() + 1).to_string();
                        if store
                            .devices()
                            .compare_and_swap(&edge, now.as_ref(), Some(&next))
                            .unwrap()
                        {
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
fn every_change_is_reported_by_the_next_call() {
    let dir = Dir::new("told");
    let store = Directory::open(&dir.0).unwrap();
    assert_eq!(touched(&store), ["all"]);
    store
        .devices()
        .compare_and_swap(&id("a"), None, Some("port: 1\n"))
        .unwrap();
    fs::write(dir.0.join("b.yaml"), "port: 1\n").unwrap();
    assert_eq!(touched(&store), ["a", "b"]);
    assert_eq!(touched(&store), [""; 0]);
    // In place, with the same length, and within one tick of the clock.
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
    // Neither notes nor temporary files are changes.
    store.put_note(&id("a"), "x").unwrap();
    fs::write(dir.0.join(".a.yaml.1.tmp"), "x").unwrap();
    assert_eq!(touched(&store), [""; 0]);
    // Kubernetes replaces a link that all files are reached through.
    std::os::unix::fs::symlink("x", dir.0.join("..data")).unwrap();
    assert_eq!(touched(&store), ["all"]);
    // The directory is replaced by another one.
    let away = dir.0.with_extension("away");
    fs::rename(&dir.0, &away).unwrap();
    assert!(matches!(
        store.devices().changes(),
        Err(StoreError::Failed(_))
    ));
    assert!(matches!(
        store.devices().get(&id("a")),
        Err(StoreError::Failed(_))
    ));
    fs::create_dir(&dir.0).unwrap();
    assert_eq!(touched(&store), ["all"]);
    fs::write(dir.0.join("d.yaml"), "").unwrap();
    assert_eq!(touched(&store), ["d"]);
    fs::remove_dir_all(&dir.0).unwrap();
    fs::rename(&away, &dir.0).unwrap();
    assert_eq!(touched(&store), ["all"]);
}

#[test]
fn unreadable_file_affects_one_device_only() {
    let dir = Dir::new("unreadable");
    let store = Directory::open(&dir.0).unwrap();
    fs::create_dir(dir.0.join("directory.yaml")).unwrap();
    let fifo = dir.0.join("fifo.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::os::unix::fs::symlink("loop.yaml", dir.0.join("loop.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.0.join("dangling.yaml")).unwrap();
    let names = ["dangling", "directory", "fifo", "loop"];
    for name in names {
        match store.devices().get(&id(name)) {
            Err(StoreError::Unreadable(why)) => {
                assert!(why.contains(&format!("{name}.yaml")), "{why}")
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let found = listed(&store);
    assert!(found.iter().map(|(id, _)| id.as_str()).eq(names));
    assert!(found
        .iter()
        .all(|(_, look)| matches!(look, Err(StoreError::Unreadable(_)))));
}

#[test]
fn lookup_of_known_revision_is_unchanged_until_the_file_changes() {
    let dir = Dir::new("look");
    let store = Directory::open(&dir.0).unwrap();
    let edge = id("edge-01");
    store
        .devices()
        .compare_and_swap(&edge, None, Some("port: 1\n"))
        .unwrap();
    let revision = store.devices().get(&edge).unwrap().unwrap().revision;
    assert_ne!(revision, 0);
    assert_eq!(
        store.devices().lookup(&edge, Some(revision)),
        Ok(Lookup::Unchanged)
    );
    assert!(matches!(
        store.devices().lookup(&edge, None),
        Ok(Lookup::Found(_))
    ));
    assert!(matches!(
        store.devices().lookup(&edge, Some(0)),
        Ok(Lookup::Found(_))
    ));
    fs::write(dir.0.join("edge-01.yaml"), "port: 10\n").unwrap();
    assert!(matches!(
        store.devices().lookup(&edge, Some(revision)),
        Ok(Lookup::Found(_))
    ));
    fs::remove_file(dir.0.join("edge-01.yaml")).unwrap();
    assert_eq!(
        store.devices().lookup(&edge, Some(revision)),
        Ok(Lookup::Missing)
    );
}

#[test]
fn groups_have_a_directory_that_is_made_with_the_first() {
    let dir = Dir::new("groups");
    let store = Directory::open(&dir.0).unwrap();
    let (groups, path) = (store.groups(), dir.0.join("groups"));
    let read = || {
        let mut names = Vec::new();
        let mut found = |id: DeviceId, _| names.push(id.to_string());
        match groups.changes().unwrap() {
            Changes::Unknown => groups.scan(&|_| None, &mut found).unwrap(),
            Changes::Listed(changes) => assert_eq!(changes, []),
        }
        names
    };
    assert_eq!((read(), path.exists()), (vec![], false));
    assert_eq!(groups.get(&id("g")), Ok(None));
    assert_eq!(groups.lookup(&id("g"), Some(1)), Ok(Lookup::Missing));
    assert_eq!(groups.compare_and_swap(&id("g"), None, None), Ok(true));
    let made = groups.compare_and_swap(&id("g"), None, Some("order: 1\n"));
    assert_eq!((made, read()), (Ok(true), vec!["g".to_string()]));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("g.yaml"))), (0o700, 0o600));
    // A group is no device.
    assert_eq!(listed(&store), []);
    fs::write(path.join(".h.yaml.7.tmp"), "x").unwrap();
    drop(store);
    let store = Directory::open(&dir.0).unwrap();
    assert!(!path.join(".h.yaml.7.tmp").exists());
    let kept = store.groups().get(&id("g")).unwrap();
    let removed = store
        .groups()
        .compare_and_swap(&id("g"), kept.as_ref(), None);
    assert_eq!(removed, Ok(true));
    // A directory that comes or goes is a change.
    assert_eq!(store.groups().changes(), Ok(Changes::Unknown));
    fs::remove_dir(&path).unwrap();
    assert_eq!(store.groups().changes(), Ok(Changes::Unknown));
    store.groups().scan(&|_| None, &mut |_, _| {}).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(store.groups().changes(), Ok(Changes::Unknown));
}
