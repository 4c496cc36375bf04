# Starts an upload from the last tree of the same source, less what changed.
# In: attempt base; stdin: paths to remove, NUL-separated.
stage=$root/cache/src/.stage.$attempt
rm -rf "$stage"
cp -a "$root/cache/src/$base" "$stage" 2>/dev/null || die 79 "the base tree is gone"
cd "$stage" && xargs -0 rm -rf -- || die 79 "cannot prepare the upload"
