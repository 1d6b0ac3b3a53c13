"""Picture files of every kind that people bring, drawn here, each with what it is meant to look
like according to Pillow.
"""

import io
import struct

import numpy as np
from PIL import Image, ImageOps

HEIGHT, WIDTH = 21, 37


def by_pillow(content):
    """RGB levels, uint8 [height, width, 3]: orientation obeyed, on white, but for a BMP whose alpha
    is 0 throughout: it has none to Windows and to browsers.
    """
    image = Image.open(io.BytesIO(content))
    if image.format == "BMP" and image.mode == "RGBA" and np.asarray(image)[..., 3].max() == 0:
        image.putalpha(255)
    image = ImageOps.exif_transpose(image).convert("RGBA")
    return np.asarray(
        Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    )


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def exif(orientation, order="<", kind=3):
    """EXIF of a camera's name and an orientation, in two bytes (`kind` 3) or four (4)."""
    value = {3: "Hxx", 4: "I"}[kind]
    mark = b"II" if order == "<" else b"MM"
    return (
        b"Exif\0\0"
        + mark
        + struct.pack(
            f"{order}HIHHHI4sHHI{value}I",
            42,
            8,
            2,
            0x10F,
            2,
            4,
            b"Cam\0",
            0x112,
            kind,
            1,
            orientation,
            0,
        )
    )


def segment(marker, content):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(jpeg, *segments):
    """A JPEG with `segments` behind that of JFIF."""
    return jpeg[:20] + b"".join(segments) + jpeg[20:]


def jpeg_of_blocks(across, down, columns=3, rows=3):
    """A JPEG by hand of `columns` x `rows` units, each of `across` x `down` blocks of 8 x 8 pixels
    with a level of their own, and one colour.
    """
    bits = "0101" + "{:05b}0"  # of each: five bits follow, a difference of 16 to 31, no more
    values = np.random.default_rng(across * down).integers(
        0, 32, [columns * rows, across * down + 2]
    )
    stream = "".join(bits.format(value) for value in values.flat)
    packed = np.packbits(np.array(list(stream + "1" * (-len(stream) % 8)), np.uint8)).tobytes()
    size = (8 * down * rows, 8 * across * columns)
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xDB, b"\0" + b"\x08" * 64),
            segment(
                0xC0,
                struct.pack(">BHHB", 8, *size, 3)
                + bytes([1, 16 * across + down, 0, 2, 0x11, 0, 3, 0x11, 0]),
            ),
            segment(0xC4, bytes([0, 0, 0, 0, 12, *[0] * 12, *range(12)])),  # four bits for each
            segment(0xC4, bytes([0x10, 1, *[0] * 15, 0])),  # a bit for the end of a block
            segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
            packed.replace(b"\xff", b"\xff\0"),
            b"\xff\xd9",
        )
    )


def png_with(png, name, content, last=False):
    """A PNG with a chunk before its pixels, or as the last but one; the checksum is right."""
    import zlib

    chunk = (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )
    place = len(png) - 12 if last else png.index(b"IDAT") - 4
    return png[:place] + chunk + png[place:]


def gif(
    screen,
    place,
    numbers,
    palette,
    transparent=None,
    own_palette=False,
    interlaced=False,
    frames=1,
    before=b"",
):
    """A GIF by hand, its pixels in codes that are not compressed; `numbers` is uint8 [height,
    width] of the first frame.
    """
    height, width = numbers.shape
    if interlaced:
        numbers = numbers[
            [
                row
                for first, step in ((0, 8), (4, 8), (2, 4), (1, 2))
                for row in range(first, height, step)
            ]
        ]
    depth = max((len(palette) // 3).bit_length() - 2, 0)
    codes, bits = [256], []
    for count, number in enumerate(numbers.flatten(), 1):
        codes.append(int(number))
        if count % 120 == 0:
            codes.append(256)  # cleared before codes grow longer than 9 bits
    for code in [*codes, 257]:
        bits += [code >> bit & 1 for bit in range(9)]
    packed = np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()
    blocks = (
        b"".join(
            bytes([len(packed[at : at + 255])]) + packed[at : at + 255]
            for at in range(0, len(packed), 255)
        )
        + b"\0"
    )
    control = b"" if transparent is None else b"!\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    head = b"GIF89a" + struct.pack(
        "<HHBBB", *screen, 0 if own_palette or not palette else 0x80 | depth, 0, 0
    )
    frame = b"," + struct.pack(
        "<HHHHB", *place, width, height, (0x80 | depth if own_palette else 0) | 0x40 * interlaced
    )
    return (
        head
        + (b"" if own_palette else palette)
        + before
        + (control + frame + (palette if own_palette else b"") + b"\x08" + blocks) * frames
        + b";"
    )


def bmp(
    bits,
    rows,
    palette=b"",
    colours=0,
    compression=0,
    masks=b"",
    header=40,
    from_top=False,
    width=WIDTH,
    height=HEIGHT,
    behind=b"",
):
    """A BMP by hand; `rows` are bytes from the lowest row up, or from the highest (`from_top`)."""
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = (
            struct.pack(
                "<IiiHHIIiiII",
                header,
                width,
                -height if from_top else height,
                1,
                bits,
                compression,
                len(rows),
                0,
                0,
                colours,
                0,
            )
            + masks
        )
        info += bytes(max(0, header - len(info)))
    begin = 14 + len(info) + len(palette)
    return (
        b"BM"
        + struct.pack("<IHHI", begin + len(rows), 0, 0, begin)
        + info
        + palette
        + rows
        + behind
    )


def png(width, height, depth, colour, rows, before=()):
    """A PNG by hand: `rows` are the bytes of its rows, `before` chunks (name, content) that stand
    before them.
    """
    import zlib

    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        *before,
        (b"IDAT", zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def tiff(width, height, bits, photometric, data, order="<"):
    """A TIFF by hand of one channel, without compression."""
    begin = 8 + 2 + 9 * 12 + 4
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, begin),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(data)),
    ]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return (
        mark
        + struct.pack(f"{order}IH", 8, len(entries))
        + b"".join(
            struct.pack(f"{order}HHI", tag, kind, 1)
            + struct.pack(order + ("I" if kind == 4 else "Hxx"), value)
            for tag, kind, value in entries
        )
        + bytes(4)
        + data
    )


def small_frame_webp(image):
    """An animated WebP whose two frames, each `image`, are smaller than its screen."""

    def chunk(name, content):
        return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    def three(number):
        return struct.pack("<I", number)[:3]

    still = saved(image, "WEBP", lossless=True)
    pixels = still[still.index(b"VP8L") :]
    size = three(image.width - 1) + three(image.height - 1)
    frames = [
        chunk(b"ANMF", three(place) + three(place + 1) + size + three(100) + b"\0" + pixels)
        for place in (3, 0)
    ]
    content = (
        chunk(b"VP8X", b"\x12\0\0\0" + three(image.width + 19) + three(image.height + 29))
        + chunk(b"ANIM", b"\xff\0\0\xff\0\0")
        + b"".join(frames)
    )
    return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content


def kinds():
    """{name: content}: more than a hundred, the same at every call."""
    rng = np.random.default_rng(14)
    blocks = rng.integers(0, 256, (HEIGHT // 4 + 1, WIDTH // 4 + 1, 4), np.uint8)
    levels = np.kron(blocks, np.ones((4, 4, 1), np.uint8))[:HEIGHT, :WIDTH]
    levels[:, -7:, 3] = 255
    levels[:, :7, 3] = 0
    clear = Image.fromarray(levels)
    plain = Image.fromarray(np.ascontiguousarray(levels[..., :3]))
    grey, few = plain.convert("L"), plain.quantize(16)
    colours = rng.integers(0, 256, 768, np.uint8).tobytes()
    numbers = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    files = {}
    clear_photo = clear.resize((WIDTH * 5, HEIGHT * 5))

    jpeg = saved(plain, "JPEG", quality=90)
    files |= {
        "JPEG": jpeg,
        "JPEG, grey": saved(grey, "JPEG"),
        "JPEG, progressive": saved(plain, "JPEG", progressive=True),
        "JPEG, CMYK": saved(plain.convert("CMYK"), "JPEG"),
        "JPEG, 4:4:4": saved(plain, "JPEG", subsampling=0),
    }
    for orientation in range(1, 9):
        files[f"JPEG, orientation {orientation}"] = jpeg_with(
            jpeg, segment(0xE1, exif(orientation))
        )
        files[f"JPEG, orientation {orientation}, most significant byte first"] = jpeg_with(
            jpeg, segment(0xE1, exif(orientation, ">"))
        )
        files[f"PNG, orientation {orientation}"] = png_with(
            saved(plain, "PNG"), b"eXIf", exif(orientation, ">")[6:]
        )
        files[f"WebP, orientation {orientation}"] = saved(
            clear, "WEBP", lossless=True, exif=exif(orientation)[6:]
        )
    icc, comment = (
        segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)),
        segment(0xFE, b"\xff\xd8\xff\xda a comment"),
    )
    scan = jpeg.index(b"\xff\xda")
    assert jpeg[158:160] == b"\xff\xc0"  # of 19 bytes
    files |= {
        "JPEG, EXIF alone": jpeg[:2] + segment(0xE1, exif(6)) + jpeg[20:],
        "JPEG, EXIF behind a profile and a comment": jpeg_with(
            jpeg, icc, comment, segment(0xE1, exif(8))
        ),
        "JPEG, EXIF behind XMP": jpeg_with(
            jpeg, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), segment(0xE1, exif(3))
        ),
        "JPEG, EXIF behind the frame header": jpeg[:177] + segment(0xE1, exif(6)) + jpeg[177:],
        "JPEG, EXIF before the scan": jpeg[:scan] + segment(0xE1, exif(5)) + jpeg[scan:],
        "JPEG, EXIF behind tables": jpeg[:158] + segment(0xE1, exif(6)) + jpeg[158:],
        "JPEG, two EXIF segments": jpeg_with(jpeg, segment(0xE1, exif(6)), segment(0xE1, exif(3))),
        "JPEG, EXIF between bytes that fill up": jpeg_with(
            jpeg, b"\xff\xff" + segment(0xE1, exif(5))
        ),
        "JPEG, orientation of four bytes": jpeg_with(jpeg, segment(0xE1, exif(7, ">", 4))),
        "JPEG, orientation of four bytes, least significant first": jpeg_with(
            jpeg, segment(0xE1, exif(8, "<", 4))
        ),
        "JPEG, orientation 9": jpeg_with(jpeg, segment(0xE1, exif(9))),
        "JPEG, orientation 0": jpeg_with(jpeg, segment(0xE1, exif(0))),
        "JPEG, EXIF of Pillow": saved(plain, "JPEG", exif=exif(6)),
        "JPEG, CMYK, orientation 5": saved(plain.convert("CMYK"), "JPEG", exif=exif(5)),
        "JPEG, grey, orientation 6": saved(grey, "JPEG", exif=exif(6)),
        "JPEG, a profile": saved(plain, "JPEG", icc_profile=bytes(3000)),
        "JPEG, RGB without YCbCr": saved(plain, "JPEG", keep_rgb=True),
        "JPEG, restarts": saved(plain, "JPEG", restart_marker_blocks=1),
        "JPEG, bytes behind": jpeg + b"garbage" * 100,
        "JPEG, a stereo camera's two pictures": saved(
            plain, "MPO", save_all=True, append_images=[Image.new("RGB", plain.size)]
        ),
        "JPEG, one colour for 4 x 1 pixels": jpeg_of_blocks(4, 1),
        "JPEG, one colour for 1 x 4 pixels": jpeg_of_blocks(1, 4),
        "JPEG, one colour for 4 x 2 pixels": jpeg_of_blocks(4, 2),
        "JPEG, one colour for 2 x 4 pixels": jpeg_of_blocks(2, 4),
        "JPEG, one pixel": saved(Image.new("RGB", (1, 1), "red"), "JPEG"),
        "JPEG, one column": saved(Image.new("L", (1, 300), 99), "JPEG"),
    }
    cmyk = files["JPEG, CMYK"]
    transform = cmyk.index(b"Adobe") + 11
    files["JPEG, YCCK"] = cmyk[:transform] + b"\2" + cmyk[transform + 1 :]

    for name, image in {
        "RGB": plain,
        "grey": grey,
        "palette of 16": few,
        "palette": plain.quantize(200),
        "one bit": plain.convert("1"),
        "alpha": clear,
        "grey with alpha": clear.convert("LA"),
    }.items():
        files[f"PNG, {name}"] = saved(image, "PNG")
    files |= {
        "PNG, transparent numbers": saved(few, "PNG", transparency=bytes([0, 80, 255, 200])),
        "PNG, one transparent number": saved(few, "PNG", transparency=3),
        "PNG, transparent number of a large palette": saved(
            plain.quantize(200), "PNG", transparency=7
        ),
        "PNG, transparent grey": saved(grey, "PNG", transparency=int(np.asarray(grey)[0, 0])),
        "PNG, transparent bit": saved(plain.convert("1"), "PNG", transparency=0),
        "PNG, transparent colour": saved(
            plain, "PNG", transparency=tuple(int(level) for level in np.asarray(plain)[5, 5])
        ),
        "PNG, EXIF behind the pixels": png_with(
            saved(clear, "PNG"), b"eXIf", exif(6)[6:], last=True
        ),
        "PNG, EXIF as in JPEG": png_with(saved(plain, "PNG"), b"eXIf", exif(8)),
        "PNG, several frames": saved(
            plain, "PNG", save_all=True, append_images=[Image.new("RGB", plain.size)]
        ),
    }

    rgb = levels[..., :3].reshape(HEIGHT, -1)
    for name, content in {
        "gAMA": struct.pack(">I", 100_000),
        "sRGB": b"\0",
        "cHRM": struct.pack(">8I", *[31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000]),
        "sBIT": bytes([5, 6, 5]),
        "bKGD": struct.pack(">3H", 255, 0, 0),
        "cICP": bytes([9, 16, 0, 1]),
        "PLTE": bytes(range(30)),
    }.items():
        files[f"PNG, {name}"] = png(WIDTH, HEIGHT, 8, 2, rgb, [(name.encode(), content)])

    palette = Image.frombytes("P", (WIDTH, HEIGHT), numbers.tobytes())
    palette.putpalette(colours)
    files |= {
        "GIF": saved(palette, "GIF"),
        "GIF, grey": saved(grey, "GIF"),
        "GIF, 16 colours": saved(few, "GIF"),
        "GIF, transparent": saved(palette, "GIF", transparency=5),
        "GIF, no palette": gif((WIDTH, HEIGHT), (0, 0), numbers, b"", transparent=3),
        "GIF, one bit": saved(plain.convert("1"), "GIF"),
        "GIF, interlaced": gif((WIDTH, HEIGHT), (0, 0), numbers, colours, interlaced=True),
        "GIF, small first frame": gif((WIDTH + 9, HEIGHT + 5), (4, 3), numbers, colours),
        "GIF, small transparent first frame": gif(
            (WIDTH + 9, HEIGHT + 5), (4, 3), numbers, colours, transparent=9
        ),
        "GIF, first frame beyond its screen": gif(
            (WIDTH - 9, HEIGHT - 5), (4, 3), numbers, colours
        ),
        "GIF, own palette": gif((WIDTH, HEIGHT), (0, 0), numbers, colours, own_palette=True),
        "GIF, few colours, own palette": gif(
            (WIDTH, HEIGHT), (0, 0), numbers % 8, colours[:24], own_palette=True, transparent=2
        ),
        "GIF, numbers beyond its palette": gif((WIDTH, HEIGHT), (0, 0), numbers, colours[:96]),
        "GIF, three frames": gif((WIDTH, HEIGHT), (0, 0), numbers, colours, frames=3),
        "GIF, comments and loops": gif(
            (WIDTH, HEIGHT),
            (0, 0),
            numbers,
            colours,
            transparent=1,
            before=(b"!\xfe\x05hello\xff" + bytes(255) + b"\0!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"),
        ),
        "GIF, of 1987": saved(palette, "GIF").replace(b"GIF89a", b"GIF87a"),
        "GIF, no screen": gif((0, 0), (0, 0), numbers, colours),
        "GIF, no end": gif((WIDTH, HEIGHT), (0, 0), numbers, colours)[:-1],
        "GIF, small interlaced frame of its own palette": gif(
            (WIDTH + 9, HEIGHT + 5), (4, 3), numbers, colours, 9, True, interlaced=True, frames=2
        ),
        "GIF, several frames": saved(
            palette, "GIF", save_all=True, append_images=[Image.new("P", palette.size, 7)]
        ),
    }

    def packed(bits):
        rows = np.packbits(
            np.unpackbits(numbers[..., None], axis=2)[..., 8 - bits :].reshape(HEIGHT, -1), axis=1
        )
        return padded(rows)

    def padded(rows):
        rows = rows.reshape(HEIGHT, -1).view(np.uint8)
        return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()

    def table(count, size=4):
        return np.pad(
            np.frombuffer(colours, np.uint8)[: 3 * count].reshape(-1, 3), ((0, 0), (0, size - 3))
        ).tobytes()

    words = rng.integers(0, 2**16, (HEIGHT, WIDTH)).astype("<u2")
    longs = levels.tobytes()
    for bits in (1, 4, 8):
        files[f"BMP, {bits} bits"] = bmp(bits, packed(bits), table(2**bits))
        files[f"BMP, {bits} bits, of OS/2"] = bmp(bits, packed(bits), table(2**bits, 3), header=12)
    files |= {
        "BMP, 4 bits, few colours": bmp(4, packed(4), table(9), colours=9),
        "BMP, 8 bits, few colours": bmp(8, packed(8), table(40), colours=40),
        "BMP, 8 bits, from the top": bmp(8, packed(8), table(256), from_top=True),
        "BMP, 8 bits, grey": saved(grey, "BMP"),
        "BMP, of Pillow": saved(plain, "BMP"),
        "BMP, one bit": saved(plain.convert("1"), "BMP"),
        "BMP, 8 bits, palette of Pillow": saved(palette, "BMP"),
        "BMP, 32 bits of Pillow": saved(clear, "BMP"),
        "BMP, bytes behind": bmp(24, padded(levels[..., :3]), behind=b"notes"),
        "BMP, 24 bits, from the top": bmp(24, padded(levels[..., :3]), from_top=True),
        "BMP, 24 bits, of OS/2": bmp(24, padded(levels[..., :3]), header=12),
        "BMP, 32 bits": bmp(32, longs),
        "BMP, 16 bits": bmp(16, padded(words)),
        "BMP, 16 bits, 555": bmp(
            16, padded(words), compression=3, masks=struct.pack("<3I", 0x7C00, 0x3E0, 0x1F)
        ),
        "BMP, 16 bits, 565": bmp(
            16, padded(words), compression=3, masks=struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
        ),
        "BMP, 16 bits, 565, version 4": bmp(
            16,
            padded(words),
            compression=3,
            masks=struct.pack("<3I", 0xF800, 0x7E0, 0x1F),
            header=108,
        ),
        "BMP, 32 bits, masks": bmp(
            32, longs, compression=3, masks=struct.pack("<3I", 0xFF000000, 0xFF0000, 0xFF00)
        ),
        "BMP, 32 bits, alpha": bmp(
            32,
            longs,
            compression=3,
            header=124,
            masks=struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        ),
        **{
            f"BMP, 32 bits, alpha of zeros, header of {header} bytes": bmp(
                32,
                (levels * np.array([1, 1, 1, 0], np.uint8)).tobytes(),
                compression=3,
                header=header,
                masks=struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000),
            )
            for header in (56, 108, 124)  # of the third, fourth and fifth version
        },
        "BMP, 32 bits, alpha last, of zeros": bmp(
            32,
            (levels * np.array([0, 1, 1, 1], np.uint8)).tobytes(),
            compression=3,
            header=124,
            masks=struct.pack("<4I", 0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        ),
        "BMP, 24 bits, second version of OS/2": bmp(24, padded(levels[..., :3]), header=64),
        "BMP, 32 bits, alpha last": bmp(
            32,
            longs,
            compression=3,
            header=56,
            masks=struct.pack("<4I", 0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        ),
    }

    files |= {
        "WebP": saved(plain, "WEBP", quality=80),
        "WebP, lossless": saved(plain, "WEBP", lossless=True),
        "WebP, alpha": saved(clear, "WEBP", quality=80, exact=True),
        "WebP, lossless alpha": saved(clear, "WEBP", lossless=True),
        "WebP, profile": saved(plain, "WEBP", icc_profile=bytes(131)),
        "WebP, several frames": saved(
            clear, "WEBP", save_all=True, append_images=[plain], lossless=True
        ),
        "WebP, several frames of a photograph": saved(
            clear_photo, "WEBP", save_all=True, append_images=[clear_photo.rotate(180)]
        ),
        "WebP, bytes behind": saved(plain, "WEBP", lossless=True) + b"behind",
        "WebP, small first frame": small_frame_webp(clear),
        "WebP, EXIF as in JPEG": saved(plain, "WEBP", lossless=True, exif=exif(6, ">")),
    }
    return files
