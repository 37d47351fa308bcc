#!/bin/sh
/usr/local/lib/cache-resolver/stage1 end
