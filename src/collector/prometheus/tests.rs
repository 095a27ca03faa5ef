use super::*;

const LABELS: &[&str] = &["node", "instance"];

fn read(text: &str) -> Result<Vec<Series>, Error> {
    parse(text.as_bytes(), LABELS)
}

fn vector(series: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
}

#[test]
fn vector_is_parsed() {
    let answer = vector(
        r#"{"metric":{"__name__":"up","instance":"a:9100","node":""},"value":[1435781451.781,"1.5"]},
           {"metric":{"node":"b","instance":"\u00fc"},"value":[1435781451,"NaN"]},
           {"metric":{},"value":[0,"+Inf"]}"#,
    );
    let series = read(&answer).unwrap();
    assert_eq!(series.len(), 3);
    assert_eq!(series[0].label("instance"), Some("a:9100"));
    assert_eq!(series[0].label("node"), None);
    assert_eq!(series[0].label("__name__"), None);
    assert_eq!((series[0].at, series[0].value), (1435781451.781, 1.5));
    assert_eq!(series[1].label("instance"), Some("\u{fc}"));
    assert!(series[1].value.is_nan());
    assert_eq!(series[2].value, f64::INFINITY);
    assert!(read(&vector("")).unwrap().is_empty());
}

/// The answer to `time()`, with the members that newer servers add.
#[test]
fn scalar_is_one_series_without_labels() {
    let answer = r#"{"warnings":["x"],"data":{"result":[1763717000.123,"1763717000.5"],"resultType":"scalar",
                     "stats":{"a":[1,{}]}},"status":"success","infos":[]}"#;
    let series = read(answer).unwrap();
    assert_eq!(series.len(), 1);
    assert_eq!(
        (series[0].at, series[0].value),
        (1763717000.123, 1763717000.5)
    );
    assert!(series[0].labels.is_empty());
}

#[test]
fn native_histograms_are_skipped() {
    let answer = vector(
        r#"{"metric":{"node":"a"},"histogram":[1,{"count":"4","sum":"5","buckets":[[0,"1","2","3"]]}]},
           {"metric":{"node":"b"},"value":[1,"2"]}"#,
    );
    let series = read(&answer).unwrap();
    assert_eq!(series.len(), 1);
    assert_eq!(series[0].label("node"), Some("b"));
}

#[test]
fn error_answer_is_reported_in_prometheus_words() {
    let answer = r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error:\nunexpected <op:=>"}"#;
    let error = read(answer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Prometheus says bad_data: 1:5: parse error: unexpected <op:=>"
    );
    let why = error_message(answer.as_bytes());
    assert_eq!(
        why.as_deref(),
        Some("bad_data: 1:5: parse error: unexpected <op:=>")
    );
    assert_eq!(error_message(b"<html>"), None);
    let long = format!(r#"{{"status":"error","error":"{}"}}"#, "x".repeat(100_000));
    assert!(read(&long).unwrap_err().to_string().len() < 300);
}

#[test]
fn malformed_answers_are_refused_with_a_reason() {
    let not_json = [
        "<!DOCTYPE html><html><body>Log in</body></html>",
        "404 page not found\n",
        "{\"status\":success}",
        "{} {}",
        "\0",
        "NaN",
        r#"{"status":"success","data":{"result":[{"metric":{},"value":[1e999,"1"]}]}}"#,
    ];
    for text in not_json {
        assert_eq!(
            read(text).unwrap_err().to_string(),
            "the answer is not JSON",
            "{text}"
        );
    }
    let whole = vector(r#"{"metric":{"node":"a"},"value":[1,"2"]}"#);
    for end in 0..whole.len() {
        let error = read(&whole[..end]).unwrap_err();
        assert_eq!(error.to_string(), "the answer ends too early", "{end}");
    }
    let misshapen = [
        "{}",
        r#"{"status":"success"}"#,
        r#"{"status":"success","data":null}"#,
        r#"{"status":"success","data":{}}"#,
        r#"{"status":"other","data":{"result":[]}}"#,
        &vector("1"),
        &vector(r#"1,"x""#),
        &vector(r#"1,"2",3"#),
        &vector(r#"1,"2",{"metric":{},"value":[1,"2"]}"#),
        &vector(r#"{"metric":{},"value":[1,"2"]},1,"2""#),
        &vector(r#"{"metric":{}}"#),
        &vector(r#"{"value":[1,"2"]}"#),
        &vector(r#"{"metric":{},"values":[[1,"2"]]}"#),
        &vector(r#"{"metric":{},"value":[1,"2",3]}"#),
        &vector(r#"{"metric":{},"value":["1","2"]}"#),
        &vector(r#"{"metric":{},"value":[1,"two"]}"#),
    ];
    for text in misshapen {
        let error = read(text).unwrap_err().to_string();
        assert!(
            error.contains("not one to an instant query"),
            "{text}: {error}"
        );
    }
    for text in [
        "[]".to_owned(),
        "\"x\"".to_owned(),
        "1".to_owned(),
        r#"{"status":1}"#.to_owned(),
        r#"{"status":"success","data":[]}"#.to_owned(),
        r#"{"status":"success","data":{"result":{}}}"#.to_owned(),
        vector(r#"{"metric":{"node":1},"value":[1,"2"]}"#),
        vector(r#"{"metric":[],"value":[1,"2"]}"#),
        vector(r#"{"metric":{},"value":{}}"#),
        vector("[]"),
        vector("null"),
        "[".repeat(100_000),
        r#"{"a":"#.repeat(100_000),
    ] {
        assert!(read(&text).is_err(), "{}", excerpt(&text));
    }
}

#[test]
fn series_and_labels_are_limited() {
    let one = r#"{"metric":{"node":"a"},"value":[1,"2"]},"#;
    let all = one.repeat(MAX_SERIES);
    assert_eq!(
        read(&vector(all.trim_end_matches(','))).unwrap().len(),
        MAX_SERIES
    );
    let more = one.repeat(100_000);
    let error = read(&vector(more.trim_end_matches(','))).unwrap_err();
    assert!(
        error.to_string().contains("more than 20000 series"),
        "{error}"
    );

    let long = format!(
        r#"{{"metric":{{"node":"{}","instance":"a"}},"value":[1,"2"]}}"#,
        "x".repeat(MAX_LABEL + 1)
    );
    let series = read(&vector(&long)).unwrap();
    assert_eq!(
        (series[0].label("node"), series[0].label("instance")),
        (None, Some("a"))
    );
}

#[test]
fn read_error_is_reported_as_such() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("cut off"))
        }
    }
    let whole = vector("");
    let start = &whole.as_bytes()[..10];
    let error = parse(start.chain(Broken), LABELS).unwrap_err();
    assert!(error.to_string().contains("cut off"), "{error}");
}
