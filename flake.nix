{
  description = "Finds the Nix binary cache on the local network, proves it, and tells Nix";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      forEachSystem = nixpkgs.lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
    in
    {
      packages = forEachSystem (system: rec {
        cache-resolver = nixpkgs.legacyPackages.${system}.pkgsStatic.callPackage ./nix/package.nix { };
        default = cache-resolver;
      });
      overlays.default = import ./nix/overlay.nix;
      nixosModules = import ./nix/modules.nix;
      checks = forEachSystem (system: {
        package = self.packages.${system}.default;
        modules = import ./tests/nix/check.nix { pkgs = nixpkgs.legacyPackages.${system}; };
      });
    };
}
