# What the program's options may be, so that a mistake shows when the configuration is evaluated, not when
# the machine boots.
{ lib }:

let
  inherit (lib) types;
  matches = pattern: text: builtins.match pattern text != null;

  octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  ipv4 = "${octet}(\\.${octet}){3}";
  port = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";

  isIpv6 =
    text:
    let
      halves = lib.splitString "::" text;
      groups = lib.concatMap (half: lib.optionals (half != "") (lib.splitString ":" half)) halves;
      count = lib.length groups;
    in
    lib.all (matches "[0-9a-fA-F]{1,4}") groups
    && (if lib.length halves == 1 then count == 8 else lib.length halves == 2 && count < 8);
  # fe80::/10
  isLinkLocal = matches "[fF][eE][89abAB][0-9a-fA-F]:.*";
  isOverride =
    text:
    let
      bracketed = builtins.match "\\[(.*)](:${port})?" text;
      address = if bracketed == null then text else lib.head bracketed;
    in
    text == "none"
    || matches "${ipv4}(:${port})?" text
    || isIpv6 address && !isLinkLocal address;

  # The lengths of networks within 10/8, 172.16/12 and 192.168/16 (RFC 1918 §3).
  cidr = lib.concatStringsSep "|" [
    "10(\\.${octet}){3}/([89]|[12][0-9]|3[0-2])"
    "172\\.(1[6-9]|2[0-9]|3[01])(\\.${octet}){2}/(1[2-9]|2[0-9]|3[0-2])"
    "192\\.168(\\.${octet}){2}/(1[6-9]|2[0-9]|3[0-2])"
  ];
in
{
  override = types.addCheck types.str isOverride // {
    description = ''IP, IP:PORT or [IPv6]:PORT, not link-local, which Nix cannot use; or "none"'';
  };

  sweep = types.addCheck types.str (matches cidr) // {
    description = "private IPv4 network (ADDRESS/LENGTH within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16)";
  };

  # As the program takes one from the network (src/path.rs).
  announcedPath =
    types.addCheck types.str (
      path:
      lib.stringLength path <= 64
      && matches "/|(/[A-Za-z0-9._~-]+)+/?" path
      && !matches "(.*/)?[.][.]?(/.*)?" path
    )
    // {
      description = "absolute path of at most 64 letters, digits, and -._~ between slashes, without . and ..";
    };

  # Whether Nix takes it for a substituter, as `check_store` in src/cli/value.rs has it. What it does not know Nix
  # passes over, and builds from source.
  isSubstituter =
    url:
    lib.any (pattern: matches pattern url) [
      "https?://[^/?].*"
      "(file|(mounted-)?ssh-ng|ssh|s3|unix|local(-overlay)?|dummy)://.*"
      "/.*"
      "(auto|daemon|local)([?].*)?"
    ];

  # One spelling for each substituter: no slash at the end, and no port that the scheme implies. Nix takes
  # every spelling for a cache of its own, and asks it once more.
  normalise =
    url:
    let
      parts = builtins.match "(https?)://([^/?]+)([^?]*)(.*)" url;
      scheme = lib.elemAt parts 0;
      authority = lib.removeSuffix (if scheme == "http" then ":80" else ":443") (lib.elemAt parts 1);
      path = lib.removeSuffix "/" (lib.elemAt parts 2);
    in
    if parts == null then url else "${scheme}://${authority}${path}${lib.elemAt parts 3}";
}
