"""The kernels of `product`."""

import triton
import triton.language as tl


@triton.jit
def _place(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows and columns of this program: neighbours share rows, which then come from the cache."""
    across = tl.cdiv(columns, COLUMNS)
    row = (tl.program_id(0) // across) * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % across) * COLUMNS + tl.arange(0, COLUMNS)
    return row, column


@triton.jit
def _add_products(
    sums, x, weight, read, left, INPUTS: tl.constexpr, EVEN: tl.constexpr, PAIR: tl.constexpr,
):  # fmt: skip
    """sums plus the product of codes at x [ROWS, INPUTS] and weights [INPUTS, COLUMNS], if PAIR of the next INPUTS too.

    Rows that are not `read` count as zero, and so do inputs beyond the `left` ones; there are none where EVEN.
    """
    k = tl.arange(0, INPUTS)
    if EVEN:
        a, b = tl.load(x, mask=read, other=0), tl.load(weight)
        if PAIR:
            c, d = tl.load(x + INPUTS, mask=read, other=0), tl.load(weight + INPUTS)
    else:
        known = k < left
        a = tl.load(x, mask=read & known[None, :], other=0)
        b = tl.load(weight, mask=known[:, None], other=0)
        if PAIR:
            more = k + INPUTS < left
            c = tl.load(x + INPUTS, mask=read & more[None, :], other=0)
            d = tl.load(weight + INPUTS, mask=more[:, None], other=0)
    sums = tl.dot(a, b, sums, out_dtype=tl.int32)
    if PAIR:
        sums = tl.dot(c, d, sums, out_dtype=tl.int32)
    return sums


@triton.jit
def _with_branch(y, low, up, read, column, outputs, rank, RANK: tl.constexpr):
    """y [ROWS, COLUMNS] plus `up` of the branch's values at low [ROWS], rounded to the dtype of y."""
    r = tl.arange(0, RANK)
    a = tl.load(low[:, None] + r[None, :], mask=read[:, None] & (r < rank)[None, :], other=0.0)
    b = tl.load(
        up + r[:, None] * outputs + column[None, :], mask=(r < rank)[:, None] & (column < outputs)[None, :], other=0.0
    )
    return tl.dot(a, b, y.to(tl.float32), out_dtype=tl.float32, input_precision="ieee").to(y.dtype)


@triton.jit(do_not_specialize=["count"])
def linear(
    x, weight, out, w_scale, x_scale, bias, low, up, skip, count, inputs, outputs, rank,
    EVEN: tl.constexpr, PAIR: tl.constexpr, RANK: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    STEP: tl.constexpr = INPUTS * 2 if PAIR else INPUTS
    row, column = _place(count, outputs, ROWS, COLUMNS)
    k = tl.arange(0, INPUTS)
    left = x + row.to(tl.int64)[:, None] * inputs + k[None, :]
    # Columns beyond the end read the first: their results are not written.
    right = weight + tl.where(column < outputs, column, 0)[None, :] * inputs + k[:, None]
    sums = tl.zeros((ROWS, COLUMNS), tl.int32)
    for start in range(0, inputs, STEP):
        sums = _add_products(
            sums, left + start, right + start, (row < count)[:, None], inputs - start, INPUTS, EVEN, PAIR
        )
    dtype = out.dtype.element_ty
    scale = tl.load(w_scale + column, mask=column < outputs, other=0.0)
    y = sums.to(tl.float32) * scale[None, :]
    if dtype != tl.float16:  # rounded where the reference rounds
        y = y.to(dtype).to(tl.float32)
    by = tl.load(x_scale + row, mask=row < count, other=0.0).to(tl.float32)[:, None]
    if bias is None:
        y = y * by
    else:
        y = tl.fma(y, by, tl.load(bias + column, mask=column < outputs, other=0.0).to(tl.float32)[None, :])
    y = y.to(dtype)
    if low is not None:
        y = _with_branch(y, low + row.to(tl.int64) * rank, up, row < count, column, outputs, rank, RANK)
    place = row.to(tl.int64)[:, None] * outputs + column[None, :]
    written = (row < count)[:, None] & (column < outputs)[None, :]
    if skip is not None:
        y = (y.to(tl.float32) + tl.load(skip + place, mask=written, other=0.0).to(tl.float32)).to(dtype)
    tl.store(out + place, y, mask=written)


@triton.jit
def _conv2d_sums(
    x, weight, row, column, rows, height, width, channels, outputs, tall, wide,
    stride_down, stride_across, pad_down, pad_across, first, last,
    KH: tl.constexpr, KW: tl.constexpr, EVEN: tl.constexpr, PAIR: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """The integer sums of steps `first` to `last` over taps and channels."""
    STEP: tl.constexpr = INPUTS * 2 if PAIR else INPUTS
    image, pixel = row // (tall * wide), row % (tall * wide)
    down, across = pixel // wide, pixel % wide
    top, left = down * stride_down - pad_down, across * stride_across - pad_across
    corner = image.to(tl.int64) * height * width + top * width + left
    k = tl.arange(0, INPUTS)
    # Columns beyond the end read the first: their results are not written.
    weights = weight + tl.where(column < outputs, column, 0)[None, :] * (KH * KW * channels) + k[:, None]
    pieces = tl.cdiv(channels, STEP)
    sums = tl.zeros((ROWS, COLUMNS), tl.int32)
    for step in range(first, last):
        tap, start = step // pieces, (step % pieces) * STEP
        i, j = tap // KW, tap % KW
        inside = (row < rows) & (top + i >= 0) & (top + i < height) & (left + j >= 0) & (left + j < width)
        pixels = x + (corner + i * width + j)[:, None] * channels + (start + k)[None, :]
        taps = weights + tap * channels + start
        sums = _add_products(sums, pixels, taps, inside[:, None], channels - start, INPUTS, EVEN, PAIR)
    return sums


@triton.jit
def _conv2d_written(
    sums, out, w_scale, x_scale, bias, low, up, added, skip, totals, row, column, rows, outputs, tall, wide,
    out_image, out_row, out_column, rank, added_image, phase,
    PHASES: tl.constexpr, GROUPED: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Scale sums, add the epilogue and write. `tall` and `wide`: the output's sides, with PHASES half of them."""
    image, pixel = row // (tall * wide), row % (tall * wide)
    down, across = pixel // wide, pixel % wide
    dtype = out.dtype.element_ty
    scale = tl.load(w_scale + column, mask=column < outputs, other=0.0)[None, :]
    y = sums.to(tl.float32) * (scale * tl.load(x_scale + image, mask=row < rows, other=0.0)[:, None])
    if bias is not None:
        y += tl.load(bias + column, mask=column < outputs, other=0.0)[None, :]
    y = y.to(dtype)
    if PHASES:  # rows and columns of the upsampled output
        down, across, tall, wide = 2 * down + phase // 2, 2 * across + phase % 2, 2 * tall, 2 * wide
    if low is not None:
        spot = row.to(tl.int64)
        if GROUPED:
            spot = (image.to(tl.int64) * (tall // 2) + down // 2) * (wide // 2) + across // 2
            spot = spot * 4 + (down % 2) * 2 + across % 2
        y = _with_branch(y, low + spot * rank, up, row < rows, column, outputs, rank, RANK)
    written = (row < rows)[:, None] & (column < outputs)[None, :]
    if added is not None:
        more = tl.load(added + (image * added_image)[:, None] + column[None, :], mask=written, other=0.0)
        y = (y.to(tl.float32) + more.to(tl.float32)).to(dtype)
    place = image.to(tl.int64) * out_image + down.to(tl.int64) * out_row + across * out_column
    place = place[:, None] + column[None, :]
    if skip is not None:
        y = (y.to(tl.float32) + tl.load(skip + place, mask=written, other=0.0).to(tl.float32)).to(dtype)
    tl.store(out + place, y, mask=written)
    if totals is not None:
        wide_y = tl.where(written, y.to(tl.float32), 0.0)
        slab = tl.program_id(0) // tl.cdiv(outputs, COLUMNS)
        if PHASES:
            slab += phase * tl.cdiv(rows, ROWS)
        totals += slab * 2 * outputs + column
        tl.store(totals, tl.sum(wide_y, 0), mask=column < outputs)
        tl.store(totals + outputs, tl.sum(wide_y * wide_y, 0), mask=column < outputs)


@triton.jit(do_not_specialize=["rows", "height", "width", "tall", "wide", "pad_down", "pad_across"])
def conv2d(
    x, weight, out, w_scale, x_scale, bias, low, up, added, skip, totals,
    rows, height, width, channels, outputs, tall, wide, out_image, out_row, out_column,
    stride_down, stride_across, pad_down, pad_across, rank, added_image,
    KH: tl.constexpr, KW: tl.constexpr, PHASES: tl.constexpr, GROUPED: tl.constexpr,
    EVEN: tl.constexpr, PAIR: tl.constexpr, RANK: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """A tile of the result. `tall` and `wide`: the output's sides, with PHASES half of them."""
    row, column = _place(rows, outputs, ROWS, COLUMNS)
    phase = tl.program_id(1)
    if PHASES:
        pad_down, pad_across = 1 - phase // 2, 1 - phase % 2
        weight += phase.to(tl.int64) * outputs * KH * KW * channels
    steps = KH * KW * tl.cdiv(channels, INPUTS * 2 if PAIR else INPUTS)
    sums = _conv2d_sums(
        x, weight, row, column, rows, height, width, channels, outputs, tall, wide, stride_down, stride_across,
        pad_down, pad_across, 0, steps, KH, KW, EVEN, PAIR, ROWS, COLUMNS, INPUTS,
    )  # fmt: skip
    _conv2d_written(
        sums, out, w_scale, x_scale, bias, low, up, added, skip, totals, row, column, rows, outputs, tall, wide,
        out_image, out_row, out_column, rank, added_image, phase, PHASES, GROUPED, RANK, ROWS, COLUMNS,
    )  # fmt: skip


@triton.jit(do_not_specialize=["rows", "height", "width", "tall", "wide", "pad_down", "pad_across", "each"])
def conv2d_part(
    x, weight, partial, rows, height, width, channels, outputs, tall, wide,
    stride_down, stride_across, pad_down, pad_across, each,
    KH: tl.constexpr, KW: tl.constexpr, EVEN: tl.constexpr, PAIR: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """The sums of `each` steps: partial [parts, rows, O] int32. Integers add up to the same in any order."""
    row, column = _place(rows, outputs, ROWS, COLUMNS)
    steps = KH * KW * tl.cdiv(channels, INPUTS * 2 if PAIR else INPUTS)
    first = tl.program_id(1) * each
    sums = _conv2d_sums(
        x, weight, row, column, rows, height, width, channels, outputs, tall, wide, stride_down, stride_across,
        pad_down, pad_across, first, tl.minimum(steps, first + each), KH, KW, EVEN, PAIR, ROWS, COLUMNS, INPUTS,
    )  # fmt: skip
    place = (tl.program_id(1).to(tl.int64) * rows + row)[:, None] * outputs + column[None, :]
    tl.store(partial + place, sums, mask=(row < rows)[:, None] & (column < outputs)[None, :])


@triton.jit(do_not_specialize=["rows", "tall", "wide", "parts"])
def conv2d_joined(
    partial, out, w_scale, x_scale, bias, low, up, added, skip, totals, rows, outputs, tall, wide,
    out_image, out_row, out_column, rank, added_image, parts,
    GROUPED: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """What `conv2d` writes, from the partial sums of `conv2d_part`."""
    row, column = _place(rows, outputs, ROWS, COLUMNS)
    known = (row < rows)[:, None] & (column < outputs)[None, :]
    sums = tl.zeros((ROWS, COLUMNS), tl.int32)
    for part in range(parts):
        place = (tl.full((), part, tl.int64) * rows + row)[:, None] * outputs + column[None, :]
        sums += tl.load(partial + place, mask=known, other=0)
    _conv2d_written(
        sums, out, w_scale, x_scale, bias, low, up, added, skip, totals, row, column, rows, outputs, tall, wide,
        out_image, out_row, out_column, rank, added_image, 0, False, GROUPED, RANK, ROWS, COLUMNS,
    )  # fmt: skip
