# The manifest of a cached tree. In: base.
cat "$root/cache/src/$base/manifest" 2>/dev/null || die 81 "the base tree is gone"
