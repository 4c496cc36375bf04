# Closes the host to new sandboxes, or opens it to them. In: want (cordoned or
# open). Who reserved before this took the lock is there when it ends.
open_root
exec 8>>"$root/slots/admit"
take 8 60 || die 75 "the host's admission lock is held"
case $want in
cordoned) : >"$root/slots/cordoned" ;;
*) rm -f "$root/slots/cordoned" ;;
esac || die 71 "cannot write in $root: the disk may be full"
