#!/usr/bin/env bash
# Called by rpi-image-gen with the root file system and the directory for images: writes fstab and cmdline.txt into the
# one and genimage.cfg into the other.
set -euo pipefail

readonly ROOTFS=$1 OUT=$2
: "${IGconf_image_name?}" "${IGconf_image_suffix?}"
: "${IGconf_image_boot_part_size?}" "${IGconf_image_root_part_size?}" "${IGconf_image_spool_part_size?}"

# A kernel finds its root by the number of its partition on the disk with this signature, with an initramfs or without.
signature=$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')

# Both partitions that a kiosk could do without for a while don't keep it from starting.
# What must survive a power cut in the spool is synced by whoever writes it: ext4 needn't write more often by itself.
cat >"$ROOTFS/etc/fstab" <<END
PARTUUID=$signature-02 / ext4 noatime,commit=30,errors=remount-ro 0 1
PARTUUID=$signature-01 /boot/firmware vfat noatime,flush,umask=0077,nofail 0 2
LABEL=kiosk-spool /var/lib/kiosk-recorder ext4 noatime,data=ordered,commit=30,errors=remount-ro,nodev,nosuid,noexec,nofail 0 2
END
sed -i "s|root=[^ ]*|root=PARTUUID=$signature-02|; s| *init=[^ ]*||; s| *resize\b||" "$ROOTFS/boot/firmware/cmdline.txt"

cat >"$OUT/genimage.cfg" <<END
image boot.vfat {
    vfat {
        label = "KIOSKBOOT"
    }
    mountpoint = "/boot/firmware"
    size = $IGconf_image_boot_part_size
}

image root.ext4 {
    ext4 {
        label = "kiosk-root"
        use-mke2fs = true
        extraargs = "-b 4096 -T default"
    }
    mountpoint = "/"
    size = $IGconf_image_root_part_size
}

# Made for the card that it's going to fill: blocks of 4 KiB, a journal of 32 MiB, nothing kept for root.
image spool.ext4 {
    ext4 {
        label = "kiosk-spool"
        use-mke2fs = true
        extraargs = "-b 4096 -T default -m 0 -J size=32"
    }
    mountpoint = "/var/lib/kiosk-recorder"
    size = $IGconf_image_spool_part_size
}

image $IGconf_image_name.$IGconf_image_suffix {
    hdimage {
        partition-table-type = "mbr"
        align = 4M
        disk-signature = 0x$signature
    }
    partition boot {
        partition-type = 0xC
        bootable = true
        image = "boot.vfat"
    }
    partition root {
        partition-type = 0x83
        image = "root.ext4"
    }
    # The last one, so that it can grow.
    partition spool {
        partition-type = 0x83
        image = "spool.ext4"
    }
}
END
