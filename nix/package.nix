# The program with its units. With pkgsStatic.callPackage it is one static binary; that takes a Rust library
# for musl, which no public cache has.
{
  lib,
  rustPlatform,
  installShellFiles,
  testers,
  buildPackages,
}:

let
  root = ../.;
  cargo = builtins.fromTOML (builtins.readFile (root + "/Cargo.toml"));

  cache-resolver = rustPlatform.buildRustPackage {
    pname = cargo.package.name;
    version = cargo.package.version;

    src = lib.fileset.toSource {
      inherit root;
      fileset = lib.fileset.unions [
        (root + "/Cargo.toml")
        (root + "/Cargo.lock")
        (root + "/src")
        (lib.fileset.fileFilter (file: file.hasExt "rs") (root + "/tests"))
        (root + "/initrd/systemd")
        (root + "/initrd/cache-resolver.8")
        (root + "/initrd/completions")
      ];
    };
    cargoLock.lockFile = root + "/Cargo.lock";

    nativeBuildInputs = [ installShellFiles ];

    # Those that need nothing but a processor; the others are for `tests/run`.
    cargoTestFlags = [
      "--lib"
      "--test=wire"
      "--test=sim"
    ];

    postInstall = ''
      units=$out/lib/systemd/system
      for unit in cache-resolver.service cache-resolver-watch.service \
          cache-resolver-nix.path cache-resolver-nix.service; do
        install -D -m 644 "initrd/systemd/$unit" "$units/$unit"
      done
      substituteInPlace $units/cache-resolver.service $units/cache-resolver-watch.service \
        --replace-fail ExecStart=cache-resolver "ExecStart=$out/bin/cache-resolver"
      for unit in cache-resolver.service cache-resolver-watch.service; do
        install -D -m 644 initrd/systemd/10-sandbox.conf "$units/$unit.d/10-sandbox.conf"
      done
      install -D -m 644 initrd/systemd/sysusers.conf $out/lib/sysusers.d/cache-resolver.conf
      installManPage initrd/cache-resolver.8
      # Made from the sources: where this is built for another processor, the program does not run.
      for shell in bash zsh fish; do
        bash initrd/completions $shell >cache-resolver.$shell
      done
      installShellCompletion cache-resolver.{bash,zsh,fish}
    '';

    passthru.tests = {
      version = testers.testVersion { package = cache-resolver; };
      modules = import ../tests/nix/check.nix { pkgs = buildPackages; };
    };

    meta = {
      description = cargo.package.description;
      longDescription = ''
        A substituter that is configured but out of reach stalls Nix; one whose address changes is not
        found. This looks for the cache at boot and whenever the network changes, by name and around the
        machine, asks it for its nix-cache-info, and writes a file that nix.conf includes. Without a cache
        Nix goes straight to its upstreams.
      '';
      license = lib.licenses.mit;
      # Nobody in nixpkgs; and the sources have no home on the web to link to.
      maintainers = [ ];
      sourceProvenance = [ lib.sourceTypes.fromSource ];
      mainProgram = "cache-resolver";
      platforms = [
        "x86_64-linux"
        "aarch64-linux"
      ];
    };
  };
in
cache-resolver
