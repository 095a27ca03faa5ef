"""What ships beside the binary: scripts, units, completions, the man page, recipes, packages and manifests."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import yaml
from peers import BINARY, ROOT, free_port, get, running, temporary, wait_until

NAME = "edge-metrics-exporter"
# In the same virtual environment as this Python.
OELINT = pathlib.Path(sys.executable).parent / "oelint-adv"


def run(*command, **options):
    """Returns the output of a command; a failure is an error with that output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def scripts_are_sound():
    tracked = [pathlib.Path(line) for line in run("git", "ls-files").splitlines() if (ROOT / line).is_file()]
    scripts = []
    for file in tracked:
        with open(ROOT / file, "rb") as content:
            first = content.readline(100)
        if re.match(rb"#!.*\b(ba|da)?sh\b", first) or file.match("completions/*.bash"):
            scripts.append(file)
    for script in scripts:
        shell = "bash" if b"bash" in (ROOT / script).read_bytes()[:40] else "sh"
        run(shell, "-n", script)
    # shellcheck treats busybox as dash, which is similar.
    run("shellcheck", "--severity=warning", "--exclude=SC2187", *scripts)
    # OpenRC scripts use functions and variables of openrc-run.
    openrc = ["openrc/edge-metrics-exporter.initd", "openrc/edge-metrics-exporter.confd"]
    run("shellcheck", "--shell=sh", "--exclude=SC2034,SC2154", *openrc)
    assert len(scripts) > 10, scripts
    print(f"{len(scripts)} scripts")


def units_are_sound():
    with temporary() as directory:
        for unit in sorted((ROOT / "systemd").glob("*.service")):
            # systemd-analyze needs an existing binary.
            text = unit.read_text().replace(f"/usr/bin/{NAME}", str(BINARY))
            (directory / unit.name).write_text(text)
            said = run("systemd-analyze", "verify", "--man=no", directory / unit.name)
            assert not said, said
            score = run("systemd-analyze", "security", "--offline=yes", "--threshold=25", directory / unit.name)
            print(score.splitlines()[-1].replace("→ ", ""))


def openrc_exports_the_variables():
    """Variables of conf.d reach the program only if the init script exports them."""
    exported = set(re.findall(r"[A-Z_]+", " ".join(re.findall(r"^export (.*)$", (ROOT / f"openrc/{NAME}.initd").read_text(), flags=re.MULTILINE))))
    asked = {"LOCAL_CONFIG_PATH", "CONFIG_SERVER_URL", "CONFIG_TIMEOUT", "RUST_LOG"}
    for preset in (ROOT / "src/config/presets").glob("*.yaml"):
        asked |= set(yaml.safe_load(preset.read_text())["preset"].get("environment", {}))
    assert "BATCH_SIZE" in asked and asked <= exported, asked - exported


def man_page_lists_all_roles_and_options():
    run("mandoc", "-Tlint", "-Wwarning", f"man/{NAME}.1")
    page = run("mandoc", "-Tascii", f"man/{NAME}.1")
    page = re.sub(r".\x08", "", page)
    words = options() | roles()
    unknown = {word for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}\b", page)}
    assert not unknown, f"man/{NAME}.1 does not mention {unknown}"
    print(f"the man page has all {len(words)} roles and options")


def options():
    """The options of all roles."""
    return set().union(*(options_of(role) for role in roles()))


def options_of(role):
    return set(re.findall(r"^  (--[a-z][a-z0-9.-]+[a-z0-9])", run(BINARY, role, "--help"), flags=re.MULTILINE))


def roles():
    return set(re.findall(r"^  ([a-z][a-z-]*) ", run(BINARY, "--help"), flags=re.MULTILINE))


def completions_work():
    with temporary() as directory:
        # They call the binary of that name in PATH.
        (directory / NAME).symlink_to(BINARY)
        completions_work_with(os.environ | {"PATH": f"{directory}:{os.environ['PATH']}"})


def completions_work_with(environment):
    """Completes roles and options in each installed shell."""
    file = ROOT / f"completions/{NAME}.bash"

    def bash(*words):
        script = f'. "{file}"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _edge_metrics_exporter; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return set(run("bash", "-c", script, "bash", NAME, *words, env=environment).split())

    assert bash("") == roles(), bash("")
    assert bash("pyjoules-s") == {"pyjoules-simple"}
    for role in roles() - {"help", "version"}:
        assert options_of(role) <= bash(role, "--"), options_of(role) - bash(role, "--")
    assert "--network" in bash("doctor", "--") and "--network" not in bash("run", "--"), bash("run", "--")
    assert bash("--log.level", "de") == {"debug"}
    assert bash("record", "completion") == bash("--path.sysfs", "completion") == {"completions"}
    shells = ["bash"]
    if shutil.which("fish"):
        file = ROOT / f"completions/{NAME}.fish"
        said = run("fish", "-c", f'source {file}; complete -C "{NAME} pyjoules-"; complete -C "{NAME} run --web"', env=environment)
        assert "pyjoules-multirate\t" in said and "--web.listen-address" in said, said
        values = run("fish", "-c", f'source {file}; complete -C "{NAME} --path.sysfs completion"; complete -C "{NAME} --web.config.file config.y"', env=environment)
        assert [line.split()[0] for line in values.splitlines()] == ["completions/", "config.yaml.template"], values
        shells.append("fish")
    if shutil.which("zsh"):
        run("zsh", "-n", ROOT / f"completions/_{NAME}")
        shells.append("zsh (syntax)")
    print(f"completions: {', '.join(shells)}")


def recipes_are_sound():
    print(run("yocto/check", env=os.environ | {"OELINT": str(OELINT)}).splitlines()[-1])
    print(run("buildroot/check").strip())


def recipes_take_the_sources_from_the_address_of_cargo_toml():
    """Buildroot's SITE, and Yocto's repository and protocol: the checkout while no address is known, else the address."""
    with temporary() as directory:
        checkout = directory / "checkout"
        for place in ("buildroot", "yocto"):
            shutil.copytree(ROOT / place, checkout / place)
        (directory / "makefile").write_text(
            f"include {checkout}/buildroot/package/{NAME}/{NAME}.mk\nall: ; @echo $(EDGE_METRICS_EXPORTER_SITE)\n"
        )
        layer = (checkout / "yocto/conf/layer.conf").read_text().replace("${LAYERDIR}", str(checkout / "yocto"))
        for address, buildroot, yocto in [
            ("https://power.invalid/exporter", str(checkout), [f"{checkout}/yocto/..", "file"]),
            ("https://forge.example/power/exporter", "https://forge.example/power/exporter", ["forge.example/power/exporter", "https"]),
        ]:
            manifest = (ROOT / "Cargo.toml").read_text()
            (checkout / "Cargo.toml").write_text(re.sub(r'^(repository = ").*"$', rf'\g<1>{address}"', manifest, flags=re.MULTILINE))
            said = run("make", "-s", "-f", directory / "makefile", f"BR2_EXTERNAL_EDGE_METRICS_PATH={checkout}/buildroot", "all")
            assert said.strip() == buildroot, said
            # As BitBake evaluates ${@...}.
            expressions = dict(re.findall(r'^(EDGE_METRICS_\w+) \?= "\$\{@(.*)\}"$', layer, flags=re.MULTILINE))
            values = types.SimpleNamespace(getVar=lambda name: eval(expressions[name], {"d": values}))
            assert [values.getVar(f"EDGE_METRICS_{name}") for name in ("REPOSITORY", "PROTOCOL")] == yocto, layer


def manifests_have_minimal_privileges():
    for folder in sorted(path.parent for path in (ROOT / "deploy/kubernetes").glob("*/kustomization.yaml")):
        objects = list(yaml.safe_load_all(run("kubectl", "kustomize", folder)))
        pods = [o["spec"]["template"]["spec"] for o in objects if o["kind"] in ("DaemonSet", "Deployment")]
        assert pods, objects
        for pod in pods:
            for container in pod["containers"]:
                security = container["securityContext"]
                assert security["readOnlyRootFilesystem"] is True, container
                if folder.name.endswith("-i2c"):
                    assert pod["nodeSelector"], "a privileged pod on every node"
                    continue
                assert security["capabilities"] == {"drop": ["ALL"]}, container
                assert security["allowPrivilegeEscalation"] is False, container
                assert "memory" in container["resources"]["limits"], container
            mounts = [mount for container in pod["containers"] for mount in container.get("volumeMounts", [])]
            hosts = {volume["name"] for volume in pod.get("volumes", []) if "hostPath" in volume}
            for mount in mounts:
                assert mount["name"] not in hosts or mount.get("readOnly") or folder.name.endswith("-i2c"), mount
        print(f"{folder.name}: {', '.join(o['kind'] for o in objects)}")


def both_daemonsets_can_be_deployed_together():
    """The objects of both have different names, and no node runs both, which would need the same port."""
    kinds = {}
    for folder in ("exporter", "exporter-i2c"):
        objects = list(yaml.safe_load_all(run("kubectl", "kustomize", ROOT / "deploy/kubernetes" / folder)))
        kinds[folder] = {(o["kind"], o["metadata"]["name"]): o for o in objects}
    both = kinds["exporter"].keys() & kinds["exporter-i2c"].keys()
    assert both == {("Namespace", "monitoring")}, both
    sets = {folder: next(o for (kind, _), o in all.items() if kind == "DaemonSet") for folder, all in kinds.items()}
    pods = {folder: o["spec"]["template"]["spec"] for folder, o in sets.items()}
    terms = pods["exporter"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [{"key": "edge-metrics/i2c", "operator": "NotIn", "values": ["true"]}]}], terms
    assert pods["exporter-i2c"]["nodeSelector"] == {"edge-metrics/i2c": "true"} and "affinity" not in pods["exporter-i2c"]
    labels = {folder: o["spec"]["template"]["metadata"]["labels"] for folder, o in sets.items()}
    for folder, o in sets.items():
        # Each selects its own pods only.
        selected = [f for f in sets if o["spec"]["selector"]["matchLabels"].items() <= labels[f].items()]
        assert selected == [folder], selected
        # Each mounts its own settings.
        (name,) = [v["configMap"]["name"] for v in pods[folder]["volumes"] if "configMap" in v]
        assert ("ConfigMap", name) in kinds[folder], name


def stacks_are_sound():
    folder = ROOT / "deploy/docker"
    settings = dict(re.findall(r"^(\w+)=(.*)$", (folder / ".env").read_text(), flags=re.MULTILINE))
    assert not [name for name in settings if "PASSWORD" in name], "a password in .env"
    for file in sorted(folder.glob("compose*.yaml")):
        text = file.read_text()
        stack = yaml.safe_load(text)
        for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", text):
            assert name in settings or rest.startswith((":-", ":?")), f"{file.name}: nobody says what {name} is"
        for service, what in stack["services"].items():
            assert not what.get("privileged"), service
            for volume in what.get("volumes", []):
                source = volume.split(":")[0]
                assert not source.startswith(".") or (folder / source).exists(), f"{file.name}: {source} is not there"
        environment = os.environ | {"GRAFANA_ADMIN_PASSWORD": "of this test"}
        if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
            run("docker", "compose", "--project-directory", folder, "-f", file, "config", "--quiet", env=environment)
        print(f"{file.name}: {', '.join(stack['services'])}")


def docker_loads_the_image_of_its_own_platform():
    with temporary() as directory:
        for file in ("deploy/docker/image.sh", "Cargo.toml", "LICENSE"):
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, directory / file)
        docker = directory / "bin/docker"
        docker.parent.mkdir()
        docker.write_text('#!/bin/sh\necho "$@"\n')
        docker.chmod(0o755)
        (directory / "dist").mkdir()
        (directory / "dist/THIRD-PARTY.txt").touch()
        machine = {"armv7l": "armv7"}.get(os.uname().machine, os.uname().machine)
        (directory / f"dist/edge-metrics-exporter-{machine}").touch()
        environment = os.environ | {"PATH": f"{docker.parent}:{os.environ['PATH']}", "LOAD": "yes"}
        said = run(directory / "deploy/docker/image.sh", env=environment)
        assert "--load" in said and re.search(r"--platform linux/[^ ,]+ ", said), said


def prometheus_of_the_stack_starts():
    folder = ROOT / "deploy/docker/prometheus"
    with temporary() as directory:
        environment = os.environ | {
            "PROMETHEUS": shutil.which("prometheus"),
            "PROMETHEUS_CONFIG": str(directory / "prometheus.yml"),
            "PROMETHEUS_DATA": str(directory / "data"),
            "PROMETHEUS_RULES": str(ROOT / "deploy/prometheus"),
            "PROMETHEUS_SCRAPE_INTERVAL": "3",
            "PROMETHEUS_EVALUATE_INTERVAL": "7",
            "CLIENT_SIMPLE_EXPORTER_PORT": "9191",
        }
        address = f"127.0.0.1:{free_port()}"
        command = ["sh", folder / "entrypoint.sh", f"--web.listen-address={address}", "--log.level=error"]
        with running(command, env=environment):
            wait_until("it is ready", lambda: get(f"http://{address}/-/ready"))
            config = yaml.safe_load(yaml.safe_load(get(f"http://{address}/api/v1/status/config")[0])["data"]["yaml"])
            groups = yaml.safe_load(get(f"http://{address}/api/v1/rules")[0])["data"]["groups"]
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert jobs["pyjoules_simple"] == ["pyjoules-metrics-client-simple:9191"], jobs
    assert jobs["pyjoules_multirate"] == ["pyjoules-metrics-client-multirate:9092"], jobs
    assert config["global"]["scrape_interval"] == "3s" and config["global"]["evaluation_interval"] == "7s", config["global"]
    assert len(groups) == 2, groups


def listed_boards_keep_their_labels():
    """Targets of the server's list have the same label names as the boards' metrics: without honor_labels, Prometheus would
    rename the latter to exported_…."""
    files = [*(ROOT / "deploy").rglob("*.yml"), *(ROOT / "deploy").rglob("*.yaml")]
    jobs = []
    for file in files:
        for document in yaml.safe_load_all(file.read_text()):
            jobs += [(file.name, job) for job in document.get("scrape_configs", []) if "http_sd_configs" in job]
    assert sorted(file for file, _ in jobs) == ["fleet.yml", "lab.yml", "prometheus.yml"], jobs
    for file, job in jobs:
        assert job.get("honor_labels") is True, f"{file}: {job['job_name']}"


def config_server_of_the_stack_is_reachable_if_configured():
    """On loopback by default, or on the configured address."""
    text = (ROOT / "deploy/docker/compose.fleet.yaml").read_text()
    ports = yaml.safe_load(text)["services"]["config-server"]["ports"]
    assert ports == ["${CONFIG_SERVER_ADDRESS:-127.0.0.1}:8080:8080"], ports


def install_and_uninstall_for_every_init():
    """`make install` and `make uninstall` for each init: only files that the user may have changed are left."""
    for init, settings in [
        ("systemd", {f"etc/default/{NAME}"}),
        ("openrc", {f"etc/conf.d/{NAME}"}),
        ("sysvinit", {f"etc/default/{NAME}"}),
        ("none", set()),
    ]:
        with temporary() as directory:
            environment = os.environ | {"DESTDIR": str(directory), "INIT": init, "PREFIX": "/opt/power"}
            run("scripts/place.sh", "install", BINARY, env=environment)
            files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
            assert f"opt/power/bin/{NAME}" in files and settings <= files, files
            for file in files - {f"opt/power/bin/{NAME}"}:
                text = (directory / file).read_text()
                assert f"/usr/bin/{NAME}" not in text, f"{file} looks for the binary elsewhere"
            for file in settings:
                (directory / file).write_text("changed\n")
            run("scripts/place.sh", "install", BINARY, env=environment)
            assert all((directory / file).read_text() == "changed\n" for file in settings)
            run("scripts/place.sh", "uninstall", env=environment)
            left = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
            assert left == settings, left
    print("installed and taken away for systemd, OpenRC, System V and none")


def invalid_installations_change_nothing():
    """install.sh changes nothing with a DESTDIR, or with a binary of another machine."""
    with temporary() as directory:
        (directory / "foreign").write_bytes(b"\x7fELF of another machine")
        (directory / "foreign").chmod(0o755)
        for words, environment, said in [
            (["--yes"], {"DESTDIR": str(directory / "package")}, "make install DESTDIR="),
            (["--yes", "--no-start", "--binary", "foreign"], {}, "does not run here"),
            (["--yes", "--no-start", "--binary", "gone"], {}, "does not run here"),
        ]:
            # A separate prefix, in case it installs nevertheless. Relative paths refer to the working directory.
            environment = os.environ | {"PREFIX": str(directory / "prefix")} | environment
            done = subprocess.run(
                [ROOT / "install.sh", *words], capture_output=True, text=True, cwd=directory, env=environment, check=False
            )
            assert done.returncode != 0 and said in done.stderr, done
            assert not list(directory.glob("p*")), list(directory.iterdir())
        # An unknown init is refused before anything is installed; and make installs an existing binary without cargo.
        binary = directory / "built"
        shutil.copy(BINARY, binary)
        for init, code, files in [("bogus", 2, 0), ("none", 0, 1)]:
            words = [f"BIN={binary}", f"DESTDIR={directory / 'package'}", "PREFIX=/usr", f"INIT={init}", "CARGO=false"]
            done = subprocess.run(["make", "install", *words], capture_output=True, text=True, cwd=ROOT, check=False)
            assert done.returncode == code and len(list(directory.glob(f"package/usr/bin/{NAME}"))) == files, done
            assert code == 0 or not list(directory.glob("p*")), list(directory.iterdir())
        # So is a binary that is older than the sources.
        os.utime(binary, (0, 0))
        words = [f"BIN={binary}", f"DESTDIR={directory / 'older'}", "INIT=none", "CARGO=false"]
        run("make", "install", *words)
        assert (directory / f"older/usr/local/bin/{NAME}").is_file(), list(directory.iterdir())
    environment = os.environ | {"DESTDIR": "/nowhere"}
    done = subprocess.run([ROOT / "uninstall.sh", "--yes"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2 and "make uninstall" in done.stderr, done


def missing_files_of_a_debian_package_are_named():
    """deb.sh says how to get the binary, or the licences, that it does not find."""
    with temporary() as directory:
        shutil.copytree(ROOT / "scripts", directory / "scripts")
        shutil.copy(ROOT / "Cargo.toml", directory)
        (directory / "dist").mkdir()
        for said in ("make dist TARGETS=armv7", "make licences"):
            environment = os.environ | {"SOURCE_DATE_EPOCH": "0"}
            command = [directory / "scripts/deb.sh", "armv7"]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            assert done.returncode == 1 and said in done.stderr, done
            (directory / f"dist/{NAME}-armv7").touch()


def versions_agree():
    version = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), flags=re.MULTILINE)[1]
    for file in ("deploy/kubernetes/exporter/kustomization.yaml", "buildroot/package/edge-metrics-exporter/Config.in"):
        assert version in (ROOT / file).read_text(), f"{file} has another version than {version}"


def main():
    versions_agree()
    scripts_are_sound()
    units_are_sound()
    openrc_exports_the_variables()
    man_page_lists_all_roles_and_options()
    completions_work()
    recipes_are_sound()
    recipes_take_the_sources_from_the_address_of_cargo_toml()
    manifests_have_minimal_privileges()
    both_daemonsets_can_be_deployed_together()
    stacks_are_sound()
    docker_loads_the_image_of_its_own_platform()
    prometheus_of_the_stack_starts()
    listed_boards_keep_their_labels()
    config_server_of_the_stack_is_reachable_if_configured()
    install_and_uninstall_for_every_init()
    invalid_installations_change_nothing()
    missing_files_of_a_debian_package_are_named()


main()
