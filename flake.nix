{
  description = "Finds the Nix binary cache on the local network, verifies it, and tells Nix";

  # There is no flake.lock: only who can download nixpkgs can make one, with `nix flake lock`. Those who take
  # this as an input give it their own nixpkgs: inputs.cache-resolver.inputs.nixpkgs.follows = "nixpkgs".
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      forEachSystem =
        outputs:
        nixpkgs.lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: outputs nixpkgs.legacyPackages.${system} self.packages.${system});
    in
    {
      packages = forEachSystem (
        pkgs: _:
        let
          all = import ./nix { inherit pkgs; };
        in
        {
          default = all.package;
          cache-resolver = all.package;
          cache-resolver-static = all.static;
          inherit (all) tools;
        }
      );
      apps = forEachSystem (
        _: packages:
        nixpkgs.lib.genAttrs [ "vm-fresh" "anywhere" ] (name: {
          type = "app";
          program = "${packages.tools}/bin/${name}";
          meta = { inherit (packages.tools.meta) description; };
        })
      );
      overlays.default = import ./nix/overlay.nix;
      nixosModules = import ./nix/modules.nix;
      checks = forEachSystem (
        pkgs: packages: {
          package = packages.default;
          inherit (packages) tools;
          modules = import ./tests/nix/check.nix { inherit pkgs; };
          vm = import ./tests/nix/vm.nix { inherit pkgs; };
        }
      );
      devShells = forEachSystem (
        pkgs: packages: {
          default = pkgs.mkShell {
            inputsFrom = [ packages.default ];
            packages = [
              pkgs.clippy
              pkgs.nixfmt
              pkgs.rustfmt
              pkgs.shellcheck
            ];
          };
        }
      );
      formatter = forEachSystem (pkgs: _: pkgs.nixfmt-tree);
    };
}
