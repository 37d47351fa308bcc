# Configurations that are refused, each with a word that the message must hold.
{
  port = {
    module.services.cache-resolver = {
      enable = true;
      port = "9999";
    };
    message = "services.cache-resolver.port";
  };
  methods = {
    module.services.cache-resolver = {
      enable = true;
      methods = [ "nis" ];
    };
    message = "services.cache-resolver.methods";
  };
  announced = {
    module.services.cache-announce.path = "system";
    message = "services.cache-announce.path";
  };
  server = {
    module.myModules.services.buildCache = {
      enable = true;
      serverUrl = "waterbug.lan:9999";
    };
    message = "myModules.services.buildCache.serverUrl";
  };
  budget = {
    module.services.cache-resolver = {
      enable = true;
      budget = 30;
    };
    message = "services.cache-resolver.budget";
  };
  unknown = {
    module.services.cache-resolver.hots = "waterbug.lan";
    message = "services.cache-resolver.hots";
  };
  override = {
    module.services.cache-resolver = {
      enable = true;
      override = "fe80::1%eth0";
    };
    message = "services.cache-resolver.override";
  };
  sweep = {
    module.services.cache-resolver = {
      enable = true;
      sweep = [ "8.8.8.0/24" ];
    };
    message = "services.cache-resolver.sweep";
  };
}
