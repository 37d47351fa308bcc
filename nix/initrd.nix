# boot.initrd.cache-resolver: looks for the binary cache in stage 1 already. What it finds is in /run for
# stage 2, which confirms it in a millisecond.
{
  config,
  lib,
  options,
  pkgs,
  utils,
  ...
}:

let
  cfg = config.boot.initrd.cache-resolver;
  resolver = config.services.cache-resolver;
  inherit (config.boot.initrd) systemd;
  program = lib.getExe cfg.package;
  arguments = [
    "--budget"
    (toString resolver.budget)
  ]
  ++ resolver.arguments;

  # The unit that every stage has, without the sandbox: stage 1 has no users.
  unit = pkgs.runCommand "cache-resolver-stage1" { } ''
    units=$out/lib/systemd/system
    mkdir -p $units/cache-resolver.service.d
    ln -s ${cfg.package}/lib/systemd/system/cache-resolver.service $units/
    cp ${../initrd/systemd/10-stage1.conf} $units/cache-resolver.service.d/10-stage1.conf
  '';
in
{
  imports = [ ./module.nix ];

  options.boot.initrd.cache-resolver = {
    enable = lib.mkEnableOption "finding the Nix binary cache in stage 1, as {option}`services.cache-resolver` says";

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.pkgsStatic.cache-resolver or (pkgs.pkgsStatic.callPackage ./package.nix { });
      defaultText = lib.literalMD "the static program, which brings no libraries into the initrd";
      description = ''
        The package to use. {option}`services.cache-resolver.package` will do, too: it is compiled sooner,
        for a static program needs Rust's library for musl, which no public cache has.
      '';
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        # What is found is of no use to a stage 2 that does not read it.
        services.cache-resolver.enable = lib.mkDefault true;
        assertions = [
          {
            assertion = config.boot.initrd.network.enable || systemd.network.enable;
            message = ''
              boot.initrd.cache-resolver: stage 1 has no network; set boot.initrd.network.enable, or
              boot.initrd.systemd.network.enable, and see to the driver of the network card
              (boot.initrd.availableKernelModules).
            '';
          }
        ];
      }
      (lib.mkIf systemd.enable {
        boot.initrd.systemd = {
          packages = [ unit ];
          storePaths = [ program ];
          services.cache-resolver = {
            wantedBy = [ "initrd.target" ];
            serviceConfig.ExecStart = [
              ""
              (utils.escapeSystemdExecArgs ([ program ] ++ arguments))
            ];
          };
        };
      })
      # The scripted stage 1, as long as there is one.
      (lib.optionalAttrs (options.boot.initrd ? extraUtilsCommands) {
        boot.initrd = lib.mkIf (!systemd.enable) {
          extraUtilsCommands = ''
            copy_bin_and_libs ${program}
          '';
          # Nobody waits.
          network.postCommands = ''
            cache-resolver ${lib.escapeShellArgs arguments} >/dev/kmsg 2>&1 </dev/null &
          '';
        };
      })
    ]
  );
}
