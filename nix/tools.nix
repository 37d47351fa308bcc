# vm-fresh and anywhere, with all that they call; cache-resolver is the static one.
{
  lib,
  runCommand,
  makeWrapper,
  bash,
  cache-resolver,
  nixos-anywhere,
  nix,
  openssh,
  procps,
  qemu,
  socat,
  stdenv,
  util-linux,
}:

runCommand "cache-resolver-tools"
  {
    nativeBuildInputs = [ makeWrapper ];
    buildInputs = [ bash ];
    meta = {
      description = "Install NixOS from the local network's binary cache: vm-fresh and anywhere";
      inherit (cache-resolver.meta) license maintainers platforms;
      mainProgram = "anywhere";
    };
  }
  ''
    # The scripts find the program as they find it in a checkout.
    program=$out/libexec/target/static/${stdenv.hostPlatform.uname.processor}/cache-resolver
    mkdir -p "$(dirname "$program")" $out/bin
    ln -s ${lib.getExe cache-resolver} "$program"
    install -D -m 755 ${./vm-fresh} $out/libexec/nix/vm-fresh
    install -D -m 755 ${./anywhere} $out/libexec/nix/anywhere
    patchShebangs $out/libexec/nix
    for tool in vm-fresh anywhere; do
      makeWrapper $out/libexec/nix/$tool $out/bin/$tool --suffix PATH : ${
        lib.makeBinPath [
          nix
          nixos-anywhere
          openssh
          procps
          qemu
          socat
          util-linux
        ]
      }
    done
  ''
