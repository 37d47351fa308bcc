#!/bin/sh
# An interface is up: what has been looking without it begins again.
/usr/local/lib/cache-resolver/stage1 end
/usr/local/lib/cache-resolver/stage1
