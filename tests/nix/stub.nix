# As much of NixOS as the modules touch, for an evaluation that has nixpkgs' `lib` and nothing else.
{ lib, config, ... }:

let
  inherit (lib) mkOption types;
  anything = mkOption {
    type = types.attrsOf types.anything;
    default = { };
  };
  list =
    type:
    mkOption {
      type = types.listOf type;
      default = [ ];
    };
  unit = types.submodule {
    freeformType = types.attrsOf types.anything;
    options.wantedBy = list types.str;
    options.restartTriggers = list types.anything;
    options.serviceConfig = anything;
  };
  units = mkOption {
    type = types.attrsOf unit;
    default = { };
  };
  show = value: if lib.isBool value then lib.boolToString value else toString value;
  render = lib.mapAttrsToList (name: value: "${name} = ${show value}\n");
  isExtra = name: _: lib.hasPrefix "extra-" name;
in
{
  options = {
    assertions = list types.anything;
    warnings = list types.str;
    environment.etc = anything;
    environment.systemPackages = list types.anything;
    networking.firewall.allowedTCPPorts = list types.port;
    services.atticd = anything;
    services.avahi = anything;
    services.harmonia = anything;
    services.nginx = anything;
    services.nix-serve = anything;
    users.users = anything;
    users.groups = anything;
    systemd.packages = list types.anything;
    systemd.package = mkOption { default = "/systemd"; };
    systemd.services = units;
    systemd.paths = units;
    nix.enable = mkOption { default = true; };
    nix.extraOptions = mkOption {
      type = types.lines;
      default = "";
    };
    nix.settings = mkOption {
      type = types.submodule {
        freeformType = types.attrsOf types.anything;
        options.substituters = list types.str;
        options.trusted-public-keys = list types.str;
      };
      default = { };
    };
  };
  config = {
    nix.settings.substituters = lib.mkAfter [ "https://cache.nixos.org/" ];
    environment.etc."nix/nix.conf".source.text =
      lib.concatStrings (render (lib.filterAttrs (n: v: !isExtra n v) config.nix.settings))
      + lib.concatStrings (render (lib.filterAttrs isExtra config.nix.settings))
      + config.nix.extraOptions;
  };
}
