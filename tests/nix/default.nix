# Evaluates the modules: in NixOS, or with nixpkgs' `lib` and a stub of NixOS.
#
#   nixpkgs   path of a nixpkgs; or
#   lib       path of a nixpkgs `lib`
#   readme    the examples of README.md, as modules
{
  nixpkgs ? null,
  lib ? nixpkgs + "/lib",
  system ? "x86_64-linux",
  readme ? [ ],
}@arguments:

let
  lib = import (arguments.lib or (nixpkgs + "/lib"));
  ours = [
    ../../nix/build-cache.nix
    ../../nix/announce.nix
  ];
  pkgs = import nixpkgs { inherit system; };

  inNixos =
    modules:
    import (nixpkgs + "/nixos/lib/eval-config.nix") {
      system = null;
      modules =
        modules
        ++ ours
        ++ [
          {
            # Else each of them evaluates all packages again.
            nixpkgs.pkgs = pkgs;
            boot.isContainer = true;
            system.stateVersion = "24.05";
          }
        ];
    };

  inStub =
    modules:
    lib.evalModules {
      modules = modules ++ ours ++ [ ./stub.nix ];
      specialArgs = {
        utils.escapeSystemdExecArgs = lib.concatMapStringsSep " " (word: "\"${word}\"");
        pkgs.cache-resolver = {
          type = "derivation";
          name = "cache-resolver";
          outPath = "/cache-resolver";
          meta.mainProgram = "cache-resolver";
        };
      };
    };

  evaluateAll = if nixpkgs == null then inStub else inNixos;
  evaluate = modules: (evaluateAll modules).config;
  inherit (evaluateAll [ ]) options;
  cases = import ./cases.nix {
    inherit
      lib
      evaluate
      options
      readme
      ;
  };
in
{
  passed = map (case: case.name) (lib.filter (case: case.good) cases);
  failed = lib.filter (case: !case.good) cases;
  # Each is to be refused; see errors.nix.
  refused = lib.mapAttrs (
    _: error:
    let
      config = evaluate [ error.module ];
    in
    builtins.deepSeq [
      config.services.cache-announce.path
      config.systemd.services.cache-resolver.serviceConfig.ExecStart
      config.services.cache-resolver.override
    ] true
  ) (import ./errors.nix);
  # Where there is a whole nixpkgs: NixOS's installer image with our module, as in initrd/README.md.
  installer =
    let
      inherit
        (import (nixpkgs + "/nixos/lib/eval-config.nix") {
          inherit system;
          modules = [
            (nixpkgs + "/nixos/modules/installer/cd-dvd/installation-cd-minimal.nix")
            (import ../../nix/modules.nix).iso
          ];
        })
        config
        ;
    in
    assert lib.all (each: each.assertion) config.assertions;
    assert lib.hasInfix "!include /run/cache-resolver/nix.conf" config.nix.extraOptions;
    config.systemd.services.cache-resolver.wantedBy;
  # And that the packages and their tests evaluate, too.
  packages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
    system:
    let
      overlaid = import nixpkgs {
        inherit system;
        overlays = [ (import ../../nix/overlay.nix) ];
      };
      pkgs = import nixpkgs { inherit system; };
      inherit (import ../.. { inherit pkgs; }) package static tools;
    in
    assert overlaid.cache-resolver.drvPath == package.drvPath;
    assert overlaid.pkgsStatic.cache-resolver.drvPath == static.drvPath;
    assert !package.stdenv.hostPlatform.isStatic && static.stdenv.hostPlatform.isStatic;
    assert lib.all (field: package.meta ? ${field}) [
      "description"
      "license"
      "longDescription"
      "mainProgram"
      "maintainers"
      "platforms"
      "sourceProvenance"
    ];
    [
      package.drvPath
      static.drvPath
      tools.drvPath
      (import ./vm.nix { inherit pkgs; }).drvPath
    ]
    ++ lib.mapAttrsToList (_: test: test.drvPath) package.tests
  );
}
