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
        tools = nixpkgs.legacyPackages.${system}.callPackage ./nix/tools.nix { inherit cache-resolver; };
      });
      apps = forEachSystem (
        system:
        nixpkgs.lib.genAttrs [ "vm-fresh" "anywhere" ] (name: {
          type = "app";
          program = "${self.packages.${system}.tools}/bin/${name}";
        })
      );
      overlays.default = import ./nix/overlay.nix;
      nixosModules = import ./nix/modules.nix;
      checks = forEachSystem (system: {
        package = self.packages.${system}.default;
        inherit (self.packages.${system}) tools;
        modules = import ./tests/nix/check.nix { pkgs = nixpkgs.legacyPackages.${system}; };
      });
    };
}
