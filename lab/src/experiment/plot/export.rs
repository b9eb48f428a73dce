//! From SVG to PDF and PNG, with the font that the program brings along: a bare Debian has none.

use super::PlotError;
use resvg::{tiny_skia, usvg};
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// DejaVu Sans, cut down to the signs that figures need; `lab/fonts/README.md` says how.
const FONT: &[u8] = include_bytes!("../../../fonts/DejaVuSans-latin.ttf");
/// Pixels of the PNG for each of the SVG's.
const SCALE: f32 = 2.0;

static OPTIONS: LazyLock<usvg::Options<'static>> = LazyLock::new(|| {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    // What figures ask for is `sans-serif`: here it is this font and no other.
    fonts.set_sans_serif_family("DejaVu Sans");
    usvg::Options { fontdb: Arc::new(fonts), font_family: "DejaVu Sans".into(), ..usvg::Options::default() }
});

/// Writes an SVG beside the PDF and the PNG of it; `path`'s ending is replaced by each format's.
///
/// # Errors
/// When the text is no SVG, or a file cannot be written.
pub fn write(path: &Path, svg: &str) -> Result<(), PlotError> {
    let put = |ending: &str, bytes: &[u8]| {
        let path = path.with_extension(ending);
        std::fs::write(&path, bytes).map_err(|source| PlotError::Write { path, source })
    };
    put("svg", svg.as_bytes())?;
    let fail = |(format, why)| PlotError::Convert { path: path.with_extension(""), format, why };
    let [pdf, png] = formats(svg).map_err(fail)?;
    put("pdf", &pdf)?;
    put("png", &png)
}

/// PDF and PNG of an SVG; or which of them could not be made, and why.
pub(super) fn formats(svg: &str) -> Result<[Vec<u8>; 2], (&'static str, String)> {
    let tree = usvg::Tree::from_str(svg, &OPTIONS).map_err(|e| ("PDF", e.to_string()))?;
    Ok([pdf(&tree).map_err(|why| ("PDF", why))?, png(&tree).map_err(|why| ("PNG", why))?])
}

fn pdf(tree: &usvg::Tree) -> Result<Vec<u8>, String> {
    let options = svg2pdf::ConversionOptions::default();
    svg2pdf::to_pdf(tree, options, svg2pdf::PageOptions::default()).map_err(|e| format!("{e:?}"))
}

fn png(tree: &usvg::Tree) -> Result<Vec<u8>, String> {
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or("a figure without a size")?;
    let mut pixels =
        tiny_skia::Pixmap::new(size.width(), size.height()).ok_or("a figure that is too large")?;
    resvg::render(tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(text: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"90\" height=\"40\">\
             <rect width=\"90\" height=\"40\" fill=\"#FFFFFF\"/>\
             <text x=\"5\" y=\"25\" font-family=\"sans-serif\" font-size=\"20\">{text}</text></svg>"
        )
    }

    #[test]
    fn letters_are_in_the_picture_and_in_the_pdf_without_any_font_of_the_machine() {
        let tree = usvg::Tree::from_str(&svg("Ratio"), &OPTIONS).expect("an SVG");
        let empty = usvg::Tree::from_str(&svg(""), &OPTIONS).expect("an SVG");
        let dark = |tree: &usvg::Tree| {
            let mut pixels = tiny_skia::Pixmap::new(90, 40).expect("pixels");
            resvg::render(tree, tiny_skia::Transform::identity(), &mut pixels.as_mut());
            pixels.pixels().iter().filter(|p| p.red() < 100).count()
        };
        assert_eq!(dark(&empty), 0);
        assert!(dark(&tree) > 50, "{}", dark(&tree));
        let pdf = pdf(&tree).expect("a PDF");
        let text = String::from_utf8_lossy(&pdf);
        assert!(text.starts_with("%PDF-") && text.contains("DejaVuSans"), "the font is embedded");
        assert!(png(&tree).expect("a PNG").starts_with(b"\x89PNG"));
    }

    #[test]
    fn what_is_no_svg_is_an_error_that_names_the_file() {
        let folder = crate::temp_dir::TempDir::new("export-test").expect("a folder");
        let error = write(&folder.path().join("odd.svg"), "<svg").expect_err("half an SVG");
        assert!(matches!(error, PlotError::Convert { format: "PDF", .. }), "{error}");
        let error = write(&folder.path().join("no/such/odd"), &svg("")).expect_err("no folder");
        assert!(matches!(error, PlotError::Write { .. }), "{error}");
    }
}
